"""The radio of Linux, against a fake BlueZ on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from dbus_fast import Variant

from ble.bluez import BlueZRadio
from ble.carriage import COMPANY, Carriage, as_uuid
from ble.frame import Block, Frame, FrameError, carousel
from ble.radio import RadioError, Reason, Sighting
from tests.ble.fake_bluez import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from tests.ble.fake_bluez import FakeBlueZ

SERVICE = Carriage().service
OLD = Block(b"o" * 32, 0)
NEW = Block(b"n" * 32, 0)
FIRST = carousel(Block(b"f" * 32, 0).encode())[0]


def encoded(block: Block) -> set[bytes]:
    return {frame.encode() for frame in carousel(block.encode())}


def carried(frame: Frame) -> dict[str, Any]:
    return {"ServiceData": {SERVICE: Variant("ay", frame.encode())}}


class Noon:
    """A clock that stands still."""

    def now(self) -> float:
        return 43200.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.002))
    monkeypatch.setattr("ble.rotation.RETRY", 0.01)


@pytest.fixture
async def radio(bluez: FakeBlueZ) -> AsyncIterator[BlueZRadio]:
    async with BlueZRadio(dwell=0.01, clock=Noon(), chance=random.Random(0)) as radio:
        yield radio


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


async def trouble(radio: BlueZRadio) -> RadioError:
    await eventually(lambda: radio.trouble is not None)
    assert radio.trouble is not None
    return radio.trouble


# Advertising


async def test_one_frame_at_a_time_each_under_a_path_of_its_own(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await bluez.until("on air", 8)
    await radio.advertise(None)
    assert not bluez.on_air
    events = [event for event, _ in bluez.log if event in ("on air", "off air", "altered")]
    assert events == ["on air", "off air"] * (len(events) // 2)
    assert len({shown.path for shown in bluez.shown}) == len(bluez.shown)
    for four in (bluez.shown[:4], bluez.shown[4:8]):
        assert {shown.properties["ServiceData"][SERVICE] for shown in four} == encoded(OLD)


async def test_nothing_else_is_in_the_packet(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    (shown,) = bluez.on_air
    assert shown.signatures == {"Type": "s", "ServiceData": "a{sv}"}
    assert shown.properties["Type"] == "broadcast"
    assert list(shown.properties["ServiceData"]) == [SERVICE]


async def test_each_round_has_an_order_of_its_own(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await bluez.until("on air", 32)
    data = [shown.properties["ServiceData"][SERVICE] for shown in bluez.shown[:32]]
    assert len({tuple(data[start : start + 4]) for start in range(0, 32, 4)}) > 1


async def test_nothing_of_the_old_block_is_on_air_once_the_new_one_is(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await bluez.until("on air", 3)
    await radio.advertise(NEW.encode())
    changed = len(bluez.shown)
    await bluez.until("on air", changed + 5)
    data = [shown.properties["ServiceData"][SERVICE] for shown in bluez.shown]
    assert set(data[: changed - 1]) <= encoded(OLD)
    assert set(data[changed - 1 :]) <= encoded(NEW)


async def test_a_malformed_block_changes_nothing(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    with pytest.raises(FrameError):
        await radio.advertise(bytes(36))
    assert bluez.on_air


async def test_an_unanswered_unregister_still_clears_the_air(
    radio: BlueZRadio, bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    await radio.advertise(OLD.encode())
    monkeypatch.setattr("ble.bluez_bus.CALL", 0.1)
    bluez.ignore.add("UnregisterAdvertisement")
    await radio.advertise(None)
    await bluez.until("off air")
    assert not bluez.on_air


async def test_an_unanswered_register_is_an_error_and_leaves_nothing(
    radio: BlueZRadio, bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ble.bluez_bus.CALL", 0.1)
    bluez.ignore.add("RegisterAdvertisement")
    with pytest.raises(RadioError, match="in time") as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is Reason.FAILED
    bluez.ignore.clear()
    await radio.advertise(OLD.encode())
    assert len(bluez.on_air) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("org.bluez.Error.NotReady", Reason.OFF),
        ("org.bluez.Error.NotPermitted", Reason.FAILED),
        ("org.freedesktop.DBus.Error.AccessDenied", Reason.DENIED),
        ("org.freedesktop.DBus.Error.UnknownMethod", Reason.UNSUPPORTED),
    ],
)
async def test_a_refused_first_register_is_an_error(
    radio: BlueZRadio, bluez: FakeBlueZ, name: str, reason: Reason
) -> None:
    bluez.refuse["RegisterAdvertisement"] = name
    with pytest.raises(RadioError) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is reason
    assert not bluez.on_air


async def test_a_later_failure_is_told_and_tried_again(
    radio: BlueZRadio, bluez: FakeBlueZ, caplog: pytest.LogCaptureFixture
) -> None:
    await radio.advertise(OLD.encode())
    assert radio.trouble is None
    bluez.refuse["RegisterAdvertisement"] = "org.bluez.Error.Failed"
    assert (await trouble(radio)).reason is Reason.FAILED
    assert "nobody can hear this device" in caplog.text
    bluez.refuse.clear()
    await eventually(lambda: radio.trouble is None)
    assert len(caplog.records) == 1
    await bluez.until("on air", len(bluez.shown) + 2)


async def test_advertising_outlives_an_adapter_turned_off_and_on(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    bluez.switch("hci0", on=False)
    assert (await trouble(radio)).reason is Reason.OFF
    bluez.switch("hci0", on=True)
    await bluez.until("on air", len(bluez.shown) + 4)
    assert "altered" not in dict(bluez.log)


async def test_advertising_outlives_a_restart_of_bluez(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await bluez.stop()
    assert (await trouble(radio)).reason is Reason.ABSENT
    await bluez.start()
    await bluez.until("on air", len(bluez.shown) + 4)


async def test_cancelled_in_the_middle_of_a_call_nothing_stays_on_air(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.ignore.add("RegisterAdvertisement")
    task = asyncio.create_task(radio.advertise(OLD.encode()))
    await bluez.until("RegisterAdvertisement")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bluez.ignore.clear()
    await radio.advertise(NEW.encode())
    assert [shown.properties["ServiceData"][SERVICE] in encoded(NEW) for shown in bluez.on_air] == [True]


async def test_closing_twice_leaves_nothing(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await radio.close()
    await radio.close()
    assert not bluez.on_air


# Choosing an adapter


async def test_an_adapter_that_is_off_is_an_error(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.adapters["hci0"] = False
    with pytest.raises(RadioError, match="is off") as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is Reason.OFF


async def test_without_a_name_the_first_adapter_that_is_on_is_taken(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.adapters.update(hci0=False, hci2=True, hci1=True)
    await radio.advertise(OLD.encode())
    assert ("RegisterAdvertisement", "/org/bluez/hci1") in bluez.log


async def test_a_named_adapter_is_taken_or_nothing(bluez: FakeBlueZ) -> None:
    bluez.adapters["hci1"] = True
    async with BlueZRadio("hci1") as radio:
        await radio.advertise(OLD.encode())
        assert ("RegisterAdvertisement", "/org/bluez/hci1") in bluez.log
    async with BlueZRadio("hci7") as radio:
        with pytest.raises(RadioError, match="hci7") as caught:
            await radio.advertise(OLD.encode())
        assert caught.value.reason is Reason.ABSENT
        with pytest.raises(RadioError, match="hci7"):
            await anext(radio.sightings())


async def test_an_adapter_that_cannot_advertise_is_unsupported(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.advertises = False
    with pytest.raises(RadioError) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is Reason.UNSUPPORTED


async def test_no_bluez_on_the_bus(system_bus: subprocess.Popen[str]) -> None:
    async with BlueZRadio() as radio:
        for attempt in (radio.advertise(OLD.encode()), anext(radio.sightings())):
            with pytest.raises(RadioError, match="start the Bluetooth service") as caught:
                await attempt
            assert caught.value.reason is Reason.ABSENT


async def test_no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    async with BlueZRadio() as radio:
        for attempt in (radio.advertise(OLD.encode()), anext(radio.sightings())):
            with pytest.raises(RadioError, match="no system bus") as caught:
                await attempt
            assert caught.value.reason is Reason.ABSENT


# Listening


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
        bluez.hear(-60, **carried(carousel(OLD.encode())[0]))
        assert (await anext(sightings)).rssi == -60


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
