"""A scanner in the place of bleak's: it hears what a test lets it hear, in the form that bleak gives everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

if TYPE_CHECKING:
    from collections.abc import Callable


class Ether:
    """All scanners made so far, and what they were made with; used in the place of their class."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.running = 0
        self._callback: Callable[[BLEDevice, AdvertisementData], None] | None = None

    def __call__(self, callback: Callable[[BLEDevice, AdvertisementData], None], **arguments: Any) -> Ether:
        self._callback = callback
        self.made.append(arguments)
        return self

    async def start(self) -> None:
        self.running += 1

    async def stop(self) -> None:
        self.running -= 1

    def hear(self, rssi: int, **carried: Any) -> None:
        """Let an advertisement be heard; by default there is nothing in it."""
        assert self._callback is not None
        nothing: dict[str, Any] = {"manufacturer_data": {}, "service_data": {}, "service_uuids": []}
        fields = {"local_name": None, **nothing, "tx_power": None, "rssi": rssi, "platform_data": ()} | carried
        self._callback(BLEDevice("address", None, None), AdvertisementData(**fields))
