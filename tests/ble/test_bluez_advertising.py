"""Advertising on Linux, and which adapter is taken, with a fake BlueZ on a real bus."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ble.bluez import BlueZRadio
from ble.carriage import Carriage
from ble.frame import Block, FrameError, carousel
from ble.radio import RadioError, Reason
from tests.ble.waiting import eventually

if TYPE_CHECKING:
    import subprocess

    from tests.ble.fake_bluez import FakeBlueZ

SERVICE = Carriage().service
OLD = Block(b"o" * 32, 0)
NEW = Block(b"n" * 32, 0)


def encoded(block: Block) -> set[bytes]:
    return {frame.encode() for frame in carousel(block.encode())}


async def trouble(radio: BlueZRadio) -> RadioError:
    await eventually(lambda: radio.trouble is not None)
    assert radio.trouble is not None
    return radio.trouble


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


async def test_what_the_kernel_kept_while_off_is_removed_before_anything_else_is_shown(
    radio: BlueZRadio, bluez: FakeBlueZ
) -> None:
    await radio.advertise(OLD.encode())
    bluez.switch("hci0", on=False)
    await trouble(radio)
    with pytest.raises(RadioError):
        await radio.advertise(NEW.encode())
    before = len(bluez.shown)
    bluez.switch("hci0", on=True)
    await radio.advertise(NEW.encode())
    await bluez.until("on air", before + 6)
    kept, again, *rest = [shown.properties["ServiceData"][SERVICE] for shown in bluez.shown[before - 1 : before + 6]]
    assert again == kept
    assert set(rest) <= encoded(NEW)


async def test_advertising_outlives_a_restart_of_bluez(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    await radio.advertise(OLD.encode())
    await bluez.stop()
    assert (await trouble(radio)).reason is Reason.ABSENT
    await bluez.start()
    await bluez.until("on air", len(bluez.shown) + 4)


async def test_power_cycling_leaves_the_adapter_on_and_the_frames_come_back(
    radio: BlueZRadio, bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ble.bluez_bus.OFF", 0.05)
    await radio.advertise(OLD.encode())
    await radio.power_cycle()
    assert [event for event, _ in bluez.log if event in ("off", "on")] == ["off", "on"]
    await bluez.until("on air", len(bluez.shown) + 4)
    assert "altered" not in dict(bluez.log)


async def test_power_cycling_that_is_cut_off_leaves_the_adapter_on(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    cycling = asyncio.create_task(radio.power_cycle())
    await bluez.until("off")
    cycling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cycling
    assert bluez.adapters == {"hci0": True}


async def test_an_adapter_that_may_not_be_switched_is_an_error(radio: BlueZRadio, bluez: FakeBlueZ) -> None:
    bluez.refuse["Set"] = "org.freedesktop.DBus.Error.AccessDenied"
    with pytest.raises(RadioError) as caught:
        await radio.power_cycle()
    assert caught.value.reason is Reason.DENIED


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
