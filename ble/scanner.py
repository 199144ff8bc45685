"""Listening with bleak, on every platform: advertisements in, a bounded queue of sightings out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Literal

from bleak import BleakScanner

from ble.failure import EXPECTED, of_exception
from ble.radio import Clock, RadioError, Sighting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bleak.args.bluez import BlueZScannerArgs
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    from ble.carriage import Carriage

QUEUE = 1024  # sightings; BlueZ reports an address about once, so 100 peers give some 60 a second: 17 s of leave
START = 15.0  # seconds; a healthy adapter takes less than 1
STOP = 5.0  # seconds
# Outside of this RSSI is not a reading: 127 says "not available", bleak fills in -127 for a device that BlueZ
# knows from earlier and does not hear now.
RSSI_RANGE = range(-126, 21)  # dBm

_log = logging.getLogger(__name__)


class Scanner:
    """Hears frames for one listener at a time. One long scan: stop and start in a loop upsets BlueZ."""

    def __init__(self, clock: Clock, carriage: Carriage, *, queue: int = QUEUE) -> None:
        self._clock = clock
        self._carriage = carriage
        self._queue = queue
        self._inbox: deque[Sighting] = deque()
        self._wake = asyncio.Event()
        self._error: RadioError | None = None
        self._listening = False
        self._closed = False
        self.dropped = 0
        self.advertisements = 0  # of any kind

    async def sightings(
        self, bluez: BlueZScannerArgs | None = None, *, mode: Literal["active", "passive"] = "active"
    ) -> AsyncGenerator[Sighting]:
        """Scan, and give every frame heard. Raises RadioError; ends when closed.

        mode: "passive" sends nothing, which bleak can do on Windows, not on macOS, and on Linux only with patterns.
        """
        if self._listening:
            raise RuntimeError("this radio has a listener already: let it end first")
        self._listening, self._error = True, None
        self._inbox.clear()
        # No service UUIDs are asked for: on Windows and macOS those would hide frames in service data.
        scanner = BleakScanner(self.heard, scanning_mode=mode, bluez=bluez or {})
        try:
            await _start(scanner)
            while True:
                while self._inbox:
                    yield self._inbox.popleft()
                if self._error is not None:
                    raise self._error
                if self._closed:
                    return
                await self._wake.wait()
                self._wake.clear()
        finally:
            self._listening = False
            await _stop(scanner)

    def heard(self, _device: BLEDevice, advertisement: AdvertisementData) -> None:
        """Take what bleak reports of one address."""
        if advertisement.rssi not in RSSI_RANGE:
            return
        self.advertisements += 1
        frames = self._carriage.frames(
            advertisement.service_data, advertisement.manufacturer_data, advertisement.service_uuids
        )
        for frame in frames:
            if len(self._inbox) < self._queue:
                self._inbox.append(Sighting(self._clock.now(), frame, advertisement.rssi))
            else:
                self.dropped += 1
        if frames:
            self._wake.set()

    def fail(self, error: RadioError) -> None:
        """Let the listener know that nothing more will be heard, after what was heard already."""
        self._error = error
        self._wake.set()

    def close(self) -> None:
        """Let the listener's iteration end."""
        self._closed = True
        self._wake.set()


async def _start(scanner: BleakScanner) -> None:
    try:
        async with asyncio.timeout(START):
            await scanner.start()
    except EXPECTED as error:
        raise of_exception(error) from error


async def _stop(scanner: BleakScanner) -> None:
    # A scan that died with its adapter cannot be stopped, and need not be.
    try:
        async with asyncio.timeout(STOP):
            await scanner.stop()
    except EXPECTED as error:
        _log.debug("the scan had ended already: %s", error)
