"""What the radios of all platforms have in common: a rotation sends, a scanner hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ble.radio import Radio, RadioError
from ble.rotation import DWELL, Rotation, Sender

if TYPE_CHECKING:
    import random

    from ble.scanner import Scanner


class RotatingRadio(Radio):
    """A real radio, but for how a platform puts a frame on air, and what it wants told before it scans."""

    def __init__(
        self,
        sender: Sender,
        scanner: Scanner,
        *,
        tx_power: int = 0,
        dwell: float = DWELL,
        chance: random.Random | None = None,
    ) -> None:
        """Send with this sender, `dwell` seconds a frame and taken to be `tx_power` dBm strong."""
        self._tx_power = tx_power
        self._scanner = scanner
        self._rotation = Rotation(sender, dwell=dwell, chance=chance)

    @property
    def tx_power(self) -> int:
        """The power this radio is taken to send with, dBm; no platform tells what it really is."""
        return self._tx_power

    @property
    def dropped(self) -> int:
        """How many sightings were dropped since the start because nobody took them in time."""
        return self._scanner.dropped

    @property
    def trouble(self) -> RadioError | None:
        """Why the block is not on air at the moment, though it should be."""
        return self._rotation.trouble

    @property
    def advertisements(self) -> int:
        """How many advertisements were heard since the start, foreign ones too."""
        return self._scanner.advertisements

    async def advertise(self, block: bytes | None) -> None:
        """Send this 36-byte block; see `Radio.advertise`."""
        await self._rotation.turn_to(block)

    def interrupt(self, error: RadioError) -> None:
        """Let the sightings under way end with this error."""
        self._scanner.fail(error)

    async def close(self) -> None:
        """Fall silent, stop listening."""
        self._scanner.close()
        await self._rotation.turn_to(None)
