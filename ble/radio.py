"""The interface that every radio keeps, and how one is chosen.

What goes wrong with a radio is told as a RadioError: its `reason` says why, its text what to do about it.
"""

from __future__ import annotations

import asyncio
import enum
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from ble.carriage import COMPANY, SERVICE_UUID, Carriage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from ble.frame import Frame
    from ble.propagation import Place
    from ble.simulated import Air


class Reason(enum.Enum):
    """Why a radio cannot be used."""

    ABSENT = "absent"  # no adapter, or the one named does not exist
    OFF = "off"  # there, but powered off or blocked
    DENIED = "denied"  # the system does not let this user or program use it
    UNSUPPORTED = "unsupported"  # no radio of that kind for this platform
    FAILED = "failed"  # it answered, with an error


class RadioError(Exception):
    """The radio cannot do what was asked. The text ends with what the user should do."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Clock(Protocol):
    """Where a radio takes its time from: a test or a demo can make time run faster, or stand still."""

    def now(self) -> float:
        """Return the seconds since the Unix epoch."""

    async def sleep(self, seconds: float) -> None:
        """Return once that many of the clock's seconds have passed; later is allowed, sooner is not."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Return the seconds since the Unix epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return once that many seconds have passed."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One advertisement heard.

    at: seconds since the Unix epoch, by the clock the radio was given; rssi: dBm.
    """

    at: float
    frame: Frame
    rssi: int


class Radio(ABC):
    """Bytes out, sightings in. Used as an async context manager; `close` may be called twice."""

    @property
    @abstractmethod
    def tx_power(self) -> int:
        """The power this radio is taken to send with, dBm; it goes into every block."""

    @property
    @abstractmethod
    def dropped(self) -> int:
        """How many sightings were dropped since the start because nobody took them in time."""

    @property
    def trouble(self) -> RadioError | None:
        """Why nothing is sent at the moment, though a block should be; it is being tried again meanwhile."""
        return None

    @property
    def advertisements(self) -> int | None:
        """How many advertisements were heard since the start, foreign ones too; None where that is not known."""
        return None

    @abstractmethod
    async def advertise(self, block: bytes | None) -> None:
        """Broadcast the carousel of this 36-byte block, under fresh addresses, until told otherwise.

        None: fall silent. Nothing of the former block is sent after this returns, and no address carries
        both. Raises FrameError for bytes that are no block, and nothing changes; or RadioError, and the radio
        is silent until called again. What fails later is retried, and told by `trouble`.
        """

    @abstractmethod
    def sightings(self) -> AsyncGenerator[Sighting]:
        """Every frame heard from now on, in the order heard, own ones included where the radio hears itself.

        Raises RadioError when the radio stops hearing; it may then be called again. Ends when the radio is
        closed. Whoever leaves the loop before uses `contextlib.aclosing`, so that the scan ends there.
        """

    def interrupt(self, error: RadioError) -> None:  # noqa: B027 (a radio that cannot has nothing to do)
        """Let the sightings under way end with this error, where the radio can."""

    async def power_cycle(self) -> None:
        """Switch the adapter off and on, which ends every connection that other programs have. Raises RadioError."""
        raise RadioError(Reason.UNSUPPORTED, "This radio cannot be switched by programs: do it in the settings.")

    @abstractmethod
    async def close(self) -> None:
        """Fall silent, stop listening, let the adapter go."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class RadioOptions:
    """What a radio is opened with; each kind looks at what concerns it.

    adapter: the system's name for it, such as hci0; None for the first that is on; Linux only, others have but one
    service_uuid, company: 16 bits each, where frames ride; the same on all devices that are to meet
    tx_power: the power the radio is taken to send with, dBm
    clock: tells the time of sightings; a simulated radio has its air's instead
    air, place, name: of a simulated radio; without an air it is alone in one
    """

    adapter: str | None = None
    service_uuid: int = SERVICE_UUID
    company: int = COMPANY
    tx_power: int = 0
    clock: Clock = field(default_factory=SystemClock)
    air: Air | None = None
    place: Place = (0.0, 0.0)
    name: str = "agent"

    @property
    def carriage(self) -> Carriage:
        """Where frames ride. Raises ValueError where a number has more than 16 bits."""
        return Carriage(self.service_uuid, self.company)


def open_radio(kind: str = "auto", options: RadioOptions | None = None) -> Radio:
    """Return a radio: "bluez", "windows", "macos", "simulated", or "auto" for this platform's own.

    Nothing is switched on yet. "auto" never falls back to the simulated radio: somebody who believes to be heard
    must be. Raises RadioError (UNSUPPORTED) where there is no such radio.
    """
    options = options or RadioOptions()
    if kind == "simulated":
        return _simulated(options)
    platform: str = sys.platform
    if kind not in ("auto", *_KINDS.values()):
        kinds = ", ".join(("auto", *_KINDS.values()))
        raise RadioError(Reason.UNSUPPORTED, f"There is no radio of kind {kind!r}: choose {kinds} or simulated.")
    own = _KINDS.get(platform)
    if own is None:
        raise RadioError(
            Reason.UNSUPPORTED,
            f"SPOT cannot use the Bluetooth of this platform ({platform}): "
            "choose the simulated radio, or run it on Linux, Windows or macOS.",
        )
    if kind not in ("auto", own):
        raise RadioError(
            Reason.UNSUPPORTED, f"The radio {kind} does not exist on this platform ({platform}): choose auto or {own}."
        )
    return _OPENERS[own](options)


# A platform's module imports what exists on that platform only, so each is imported when it is chosen.


def _simulated(options: RadioOptions) -> Radio:
    from ble.simulated import Air

    air = options.air or Air(options.clock)
    return air.radio(options.name, options.place, tx_power=options.tx_power)


def _bluez(options: RadioOptions) -> Radio:
    from ble.bluez import BlueZRadio

    return BlueZRadio(options.adapter, carriage=options.carriage, tx_power=options.tx_power, clock=options.clock)


def _windows(options: RadioOptions) -> Radio:
    from ble.windows import WindowsRadio

    return WindowsRadio(carriage=options.carriage, tx_power=options.tx_power, clock=options.clock)


def _macos(options: RadioOptions) -> Radio:
    from ble.macos import MacOSRadio

    return MacOSRadio(carriage=options.carriage, tx_power=options.tx_power, clock=options.clock)


_KINDS = {"linux": "bluez", "win32": "windows", "darwin": "macos"}  # by platform
_OPENERS = {"bluez": _bluez, "windows": _windows, "macos": _macos}
