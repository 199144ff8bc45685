"""Listening on Linux, through bleak, to a fake BlueZ on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from dbus_fast import Variant

from ble.carriage import COMPANY, Carriage, as_uuid
from ble.frame import Block, Frame, carousel
from ble.radio import RadioError, Reason, Sighting
from tests.ble.waiting import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from ble.bluez import BlueZRadio
    from tests.ble.fake_bluez import FakeBlueZ

SERVICE = Carriage().service
OLD = Block(b"o" * 32, 0)
FIRST = carousel(Block(b"f" * 32, 0).encode())[0]


def carried(frame: Frame) -> dict[str, Any]:
    return {"ServiceData": {SERVICE: Variant("ay", frame.encode())}}


@contextlib.asynccontextmanager
async def listening(radio: BlueZRadio, bluez: FakeBlueZ) -> AsyncIterator[AsyncIterator[Sighting]]:
    """Start listening, and give what is heard after a first frame, which shows that the scan runs."""
    heard: asyncio.Queue[Sighting | RadioError | None] = asyncio.Queue()

    async def listen() -> None:
        try:
            async with contextlib.aclosing(radio.sightings()) as sightings:
                async for sighting in sightings:
                    heard.put_nowait(sighting)
            heard.put_nowait(None)
        except RadioError as error:
            heard.put_nowait(error)

    async def take() -> AsyncIterator[Sighting]:
        while (item := await asyncio.wait_for(heard.get(), 30)) is not None:
            if isinstance(item, RadioError):
                raise item
            yield item

    starts = sum(1 for event, _ in bluez.log if event == "StartDiscovery")
    task = asyncio.create_task(listen())
    try:
        await bluez.until("StartDiscovery", starts + 1)
        bluez.hear(-20, **carried(FIRST))
        sightings = take()
        assert (await anext(sightings)).frame == FIRST
        yield sightings
    finally:
        task.cancel()
        await asyncio.wait({task})


async def lost(sightings: AsyncIterator[Sighting]) -> RadioError:
    with pytest.raises(RadioError) as caught:
        await anext(sightings)
    return caught.value


async def test_frames_are_heard_whatever_they_ride_in(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    first, second, third, _ = carousel(OLD.encode())
    async with listening(radio, bluez) as sightings:
        bluez.hear(-60, **carried(first))
        bluez.hear(-61, ManufacturerData={COMPANY: Variant("ay", second.encode())})
        bluez.hear(-62, UUIDs=["0000180f-0000-1000-8000-00805f9b34fb", as_uuid(third)])
        heard = [await anext(sightings) for _ in range(3)]
    assert heard == [
        Sighting(43200.0, first, -60),
        Sighting(43200.0, second, -61),
        Sighting(43200.0, third, -62),
    ]


async def test_an_address_heard_again_is_another_sighting(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    first, second, *_ = carousel(OLD.encode())
    async with listening(radio, bluez) as sightings:
        path = bluez.hear(-60, **carried(first))
        bluez.hear_again(path, -65)
        bluez.hear_again(path, -70, **carried(second))
        assert [(await anext(sightings)).rssi for _ in range(3)] == [-60, -65, -70]


async def test_what_is_no_reading_or_no_frame_is_no_sighting(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    first, second, *_ = carousel(OLD.encode())
    async with listening(radio, bluez) as sightings:
        bluez.hear(None, **carried(first))
        bluez.hear(-127, **carried(first))
        bluez.hear(127, **carried(first))
        bluez.hear(-50, ServiceData={SERVICE: Variant("ay", b"too short")})
        bluez.hear(-50, ManufacturerData={0x004C: Variant("ay", first.encode())})
        bluez.hear(-50, **carried(second))
        assert (await anext(sightings)).frame == second


async def test_the_filter_lets_every_report_through(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez):
        assert bluez.filters[0] == {"Transport": "le", "DuplicateData": True, "RSSI": -120}


async def test_a_full_queue_drops_and_counts(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    radio._scanner._queue = 2
    frame = carousel(OLD.encode())[0]
    async with contextlib.aclosing(radio.sightings()) as sightings:
        first = asyncio.ensure_future(anext(sightings))
        await bluez.until("StartDiscovery")
        bluez.hear(-40, **carried(frame))
        await first
        for _ in range(5):
            bluez.hear(-50, **carried(frame))
        await eventually(lambda: radio.dropped >= 3)
        assert [(await anext(sightings)).rssi for _ in range(2)] == [-50, -50]
    assert radio.dropped == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [("org.bluez.Error.NotReady", Reason.OFF), ("org.bluez.Error.InProgress", Reason.FAILED)],
)
async def test_a_scan_that_does_not_start_is_an_error(
    radio: BlueZRadio, bluez: FakeBlueZ, name: str, reason: Reason
) -> None:
    bluez.refuse["StartDiscovery"] = name
    with pytest.raises(RadioError) as caught:
        await anext(radio.sightings())
    assert caught.value.reason is reason


async def test_a_scan_that_hangs_is_an_error(
    radio: BlueZRadio, bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ble.scanner.START", 0.1)
    bluez.ignore.add("StartDiscovery")
    with pytest.raises(RadioError, match="in time"):
        await anext(radio.sightings())


async def test_turning_the_adapter_off_ends_the_scan_and_another_can_follow(
    radio: BlueZRadio, bluez: FakeBlueZ
) -> None:
    frame = carousel(OLD.encode())[0]
    async with listening(radio, bluez) as sightings:
        bluez.hear(-60, **carried(frame))
        await anext(sightings)
        bluez.refuse["StopDiscovery"] = "org.bluez.Error.Failed"  # as BlueZ then does
        bluez.switch("hci0", on=False)
        assert (await lost(sightings)).reason is Reason.OFF
    bluez.refuse.clear()
    bluez.switch("hci0", on=True)
    async with listening(radio, bluez) as sightings:
        bluez.hear(-61, **carried(frame))
        assert (await anext(sightings)).rssi == -61


async def test_unplugging_the_adapter_ends_the_scan(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez) as sightings:
        bluez.unplug("hci0")
        assert (await lost(sightings)).reason is Reason.ABSENT


async def test_another_adapter_going_off_does_not(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.adapters["hci1"] = True
    async with listening(radio, bluez) as sightings:
        bluez.switch("hci1", on=False)
        bluez.unplug("hci1")
        for rssi in (-60, -61):  # by the second, the news of the other adapter has long arrived
            bluez.hear(rssi, **carried(carousel(OLD.encode())[0]))
            assert (await anext(sightings)).rssi == rssi


async def test_the_end_of_bluez_ends_the_scan(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez) as sightings:
        await bluez.stop()
        assert (await lost(sightings)).reason is Reason.ABSENT


async def test_the_end_of_the_bus_ends_the_scan(
    radio: BlueZRadio, bluez: FakeBlueZ, system_bus: subprocess.Popen[str]
) -> None:
    async with listening(radio, bluez) as sightings:
        system_bus.terminate()
        assert (await lost(sightings)).reason in (Reason.ABSENT, Reason.FAILED)


async def test_closing_the_radio_ends_the_sightings(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez) as sightings:
        await radio.close()
        assert [sighting async for sighting in sightings] == []


async def test_a_second_listener_is_refused(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez):
        with pytest.raises(RuntimeError, match="listener"):
            await anext(radio.sightings())


async def test_leaving_the_loop_stops_the_scan(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    async with listening(radio, bluez):
        pass
    assert ("StopDiscovery", "/org/bluez/hci0") in bluez.log
