"""The interface that every radio keeps, and how one is chosen.

RadioError          the radio cannot do what was asked; `reason` says why, the text says what to do
"""

from __future__ import annotations

import asyncio
import enum
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from ble.frame import Frame


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

    @abstractmethod
    async def advertise(self, block: bytes | None) -> None:
        """Broadcast the carousel of this 36-byte block, under fresh addresses, until told otherwise.

        None: fall silent. Nothing of the former block is sent after this returns, and no address carries
        both. Raises FrameError for bytes that are no block, and RadioError; the radio is silent then.
        """

    @abstractmethod
    def sightings(self) -> AsyncIterator[Sighting]:
        """Every frame heard from now on, in the order heard, own ones included where the radio hears itself.

        Raises RadioError when the radio stops hearing; it may then be called again.
        """

    @abstractmethod
    async def close(self) -> None:
        """Fall silent, stop listening, let the adapter go."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
