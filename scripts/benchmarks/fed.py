"""A radio that hears what a bench feeds it, at the place where bleak would report it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from ble import scanner
from ble.carriage import Carriage
from ble.frame import Block, Frame, carousel
from ble.rotating import RotatingRadio
from ble.scanner import Scanner
from protocol.encounter import EpochKey

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from ble.radio import Clock, Sighting

CARRIAGE = Carriage()


class FedRadio(RotatingRadio):
    """A radio as on a real platform, with nothing of the system behind it. `heard` is its scanner's callback."""

    def __init__(self, clock: Clock) -> None:
        ear = Scanner(clock, CARRIAGE)
        super().__init__(_Nowhere(), ear)
        self.heard = ear.heard

    def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame that is fed."""
        return self._scanner.sightings()


class _Nowhere:
    """Where what is sent goes."""

    async def show(self, frame: Frame) -> None:
        """Nothing to do."""

    async def hide(self) -> None:
        """Nothing to do."""


class _Silent:
    """In the place of bleak's scanner: it hears nothing by itself."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


def replace_bleak() -> None:
    """From now on, in this process, scans are silent."""
    vars(scanner)["BleakScanner"] = _Silent


def advertisement(data: bytes, rssi: int = -60, service: str = CARRIAGE.service) -> AdvertisementData:
    """What bleak reports on Linux of an advertisement with this service data."""
    return AdvertisementData(
        local_name=None,
        manufacturer_data={},
        service_data={service: data},
        service_uuids=[service],
        tx_power=None,
        rssi=rssi,
        platform_data=("/org/bluez/hci0", {}),
    )


def device(number: int) -> BLEDevice:
    """A device with an address of its own."""
    address = ":".join(f"{byte:02X}" for byte in (0x10 << 40 | number).to_bytes(6, "big"))
    return BLEDevice(address, None, {})


def make_peers(count: int, chance: random.Random) -> list[tuple[Frame, ...]]:
    """The four frames of each of so many peers, whose EBIDs are real ones."""
    return [carousel(Block(EpochKey(chance.randbytes(32)).ebid, 0).encode()) for _ in range(count)]


def reports_of(peers: Sequence[Sequence[Frame]]) -> Iterator[tuple[BLEDevice, AdvertisementData]]:
    """Without end: each peer in turn, one frame at a time, each frame under an address of its own."""
    made = [
        [(device(number * 4 + frame.index), advertisement(frame.encode())) for frame in frames]
        for number, frames in enumerate(peers)
    ]
    for turn in itertools.count():
        for number, frames in enumerate(made):
            # Not all begin with the same slice.
            yield frames[(turn + number) % len(frames)]
