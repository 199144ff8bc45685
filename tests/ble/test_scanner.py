"""From what bleak reports, the same on every platform, to sightings."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from bleak.uuids import normalize_uuid_str

from ble.carriage import COMPANY, SERVICE_UUID, Carriage, as_uuid
from ble.frame import Block, carousel
from ble.radio import Sighting
from ble.scanner import Scanner
from tests.ble.conftest import Noon
from tests.ble.fake_bleak import Ether
from tests.ble.waiting import eventually

if TYPE_CHECKING:
    from typing import Literal

FRAMES = carousel(Block(b"p" * 32, 0).encode())


@pytest.fixture
def ether(monkeypatch: pytest.MonkeyPatch) -> Ether:
    ether = Ether()
    monkeypatch.setattr("ble.scanner.BleakScanner", ether)
    return ether


async def test_a_frame_is_heard_in_any_of_the_three_carriages(ether: Ether) -> None:
    scanner = Scanner(Noon(), Carriage())
    async with contextlib.aclosing(scanner.sightings()) as sightings:
        first = asyncio.ensure_future(anext(sightings))
        await eventually(lambda: ether.running == 1)
        # As bleak writes UUIDs on Windows and macOS.
        ether.hear(-60, service_data={normalize_uuid_str(f"{SERVICE_UUID:04x}"): FRAMES[0].encode()})
        ether.hear(-61, manufacturer_data={COMPANY: FRAMES[1].encode()})
        ether.hear(-62, service_uuids=[normalize_uuid_str("180f"), normalize_uuid_str(as_uuid(FRAMES[2]).upper())])
        ether.hear(-63, manufacturer_data={0x004C: FRAMES[3].encode()})
        ether.hear(-127, manufacturer_data={COMPANY: FRAMES[3].encode()})
        ether.hear(-64, manufacturer_data={COMPANY: FRAMES[3].encode()})
        heard = [await first, *[await anext(sightings) for _ in range(3)]]
    assert heard == [
        Sighting(43200.0, FRAMES[0], -60),
        Sighting(43200.0, FRAMES[1], -61),
        Sighting(43200.0, FRAMES[2], -62),
        Sighting(43200.0, FRAMES[3], -64),
    ]
    assert ether.running == 0


@pytest.mark.parametrize("mode", ["active", "passive"])
async def test_bleak_is_told_how_to_scan_and_filters_nothing(ether: Ether, mode: Literal["active", "passive"]) -> None:
    scanner = Scanner(Noon(), Carriage())
    async with contextlib.aclosing(scanner.sightings(mode=mode)) as sightings:
        first = asyncio.ensure_future(anext(sightings))
        await eventually(lambda: ether.running == 1)
        ether.hear(-60, manufacturer_data={COMPANY: FRAMES[0].encode()})
        await first
    assert ether.made == [{"scanning_mode": mode, "bluez": {}}]
