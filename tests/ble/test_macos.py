"""The radio of macOS, with a fake of just what it calls there, and of bleak's scanner.

The fake was compared with the real packages by `python -m tests.ble.check_wheels`; which versions, that program says.
Nothing of this has run on a Mac.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import random
import sys
from typing import TYPE_CHECKING

import pytest

from ble.carriage import COMPANY, as_uuid
from ble.frame import Block, FrameError, carousel
from ble.radio import RadioError, RadioOptions, Reason, open_radio
from tests.ble.conftest import Noon
from tests.ble.fake_bleak import Ether
from tests.ble.fake_corebluetooth import CONSTANTS, ON, Mac, NSError
from tests.ble.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ble.macos import MacOSRadio

OLD = Block(b"o" * 32, 0)
NEW = Block(b"n" * 32, 0)
OFF = CONSTANTS["CBManagerStatePoweredOff"]


def advertised(block: Block) -> list[dict[str, list[str]]]:
    return [{"kCBAdvDataServiceUUIDs": [as_uuid(frame)]} for frame in carousel(block.encode())]


def is_of(data: list[dict[str, list[str]]], block: Block) -> bool:
    return bool(data) and all(one in advertised(block) for one in data)


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    """A macOS that is there while the module is imported, and the module in a hurry."""
    machine = Mac()
    for name, module in machine.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "ble.macos", raising=False)
    importlib.import_module("ble.macos")
    monkeypatch.setattr("ble.failure.PLATFORM", "darwin")
    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.002))
    monkeypatch.setattr("ble.rotation.RETRY", 0.01)
    monkeypatch.setattr("ble.macos.STATE", 0.05)
    monkeypatch.setattr("ble.macos.START", 0.05)
    monkeypatch.setattr("ble.macos.STOP", 0.05)
    monkeypatch.setattr("ble.macos.POLL", 0.001)
    yield machine
    del sys.modules["ble.macos"]


@pytest.fixture
async def radio(mac: Mac) -> AsyncIterator[MacOSRadio]:
    from ble.macos import MacOSRadio

    async with MacOSRadio(dwell=0.01, tx_power=3, clock=Noon(), chance=random.Random(0)) as radio:
        yield radio


async def trouble(radio: MacOSRadio) -> RadioError:
    await eventually(lambda: radio.trouble is not None)
    assert radio.trouble is not None
    return radio.trouble


# Advertising


async def test_until_it_is_told_something_it_asks_macos_for_nothing(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(None)
    assert not mac.managers


async def test_a_frame_is_one_service_uuid_and_all_go_round(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    await eventually(lambda: len(mac.shown) >= 8)
    await radio.advertise(None)
    assert not mac.on_air
    for four in (mac.shown[:4], mac.shown[4:8]):
        assert all(one in four for one in advertised(OLD))
    assert len(mac.managers) == 1


async def test_nothing_of_the_old_block_is_on_air_once_the_new_one_is(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    await eventually(lambda: len(mac.shown) >= 3)
    await radio.advertise(NEW.encode())
    changed = len(mac.shown)
    assert is_of(mac.on_air, NEW)
    await eventually(lambda: len(mac.shown) >= changed + 4)
    assert is_of(mac.shown[: changed - 1], OLD)
    assert is_of(mac.shown[changed - 1 :], NEW)


async def test_a_malformed_block_changes_nothing(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    with pytest.raises(FrameError):
        await radio.advertise(bytes(36))
    await eventually(lambda: is_of(mac.on_air, OLD))


@pytest.mark.parametrize(
    ("state", "reason", "remedy"),
    [
        ("CBManagerStatePoweredOff", Reason.OFF, "System Settings, Bluetooth"),
        ("CBManagerStateUnauthorized", Reason.DENIED, "Privacy & Security"),
        ("CBManagerStateUnsupported", Reason.UNSUPPORTED, "another adapter"),
        ("CBManagerStateResetting", Reason.FAILED, "off and on"),
        ("CBManagerStateUnknown", Reason.FAILED, "grant it"),
    ],
)
async def test_without_bluetooth_it_is_an_error(
    radio: MacOSRadio, mac: Mac, state: str, reason: Reason, remedy: str
) -> None:
    mac.state = CONSTANTS[state]
    for attempt in (radio.advertise(OLD.encode()), anext(radio.sightings())):
        with pytest.raises(RadioError, match=remedy) as caught:
            await attempt
        assert caught.value.reason is reason
    assert not mac.shown
    mac.turn(ON)
    await radio.advertise(OLD.encode())
    assert is_of(mac.on_air, OLD)


async def test_the_user_may_answer_late(radio: MacOSRadio, mac: Mac) -> None:
    mac.state = None
    with pytest.raises(RadioError, match="grant it"):
        await radio.advertise(OLD.encode())
    again = asyncio.create_task(radio.advertise(OLD.encode()))
    await asyncio.sleep(0)
    mac.turn(ON)
    await again
    assert is_of(mac.on_air, OLD)
    assert len(mac.managers) == 1


@pytest.mark.parametrize(("code", "reason"), [(13, Reason.UNSUPPORTED), (9, Reason.FAILED), (0, Reason.FAILED)])
async def test_a_start_that_fails_is_an_error(radio: MacOSRadio, mac: Mac, code: int, reason: Reason) -> None:
    mac.error = NSError(code)
    with pytest.raises(RadioError, match=f"error {code}") as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is reason
    mac.error = None
    await radio.advertise(OLD.encode())
    assert is_of(mac.on_air, OLD)


async def test_a_start_that_hangs_is_an_error_and_leaves_nothing(radio: MacOSRadio, mac: Mac) -> None:
    mac.mute = True
    with pytest.raises(RadioError, match="in time"):
        await radio.advertise(OLD.encode())
    assert not mac.on_air
    mac.mute = False
    await radio.advertise(NEW.encode())
    assert is_of(mac.on_air, NEW)


async def test_what_does_not_stop_goes_with_its_manager(
    radio: MacOSRadio, mac: Mac, caplog: pytest.LogCaptureFixture
) -> None:
    await radio.advertise(OLD.encode())
    mac.sticky = True
    await radio.advertise(NEW.encode())
    assert "off the air" in caplog.text
    assert is_of(mac.on_air, NEW)
    assert len(mac.managers) >= 2


async def test_advertising_outlives_bluetooth_turned_off_and_on(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    mac.turn(OFF)
    assert (await trouble(radio)).reason is Reason.OFF
    before = len(mac.shown)
    mac.turn(ON)
    await eventually(lambda: len(mac.shown) >= before + 4)
    assert radio.trouble is None


async def test_an_unknown_state_is_waited_out(radio: MacOSRadio, mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ble.macos.STATE", 30.0)
    await radio.advertise(OLD.encode())
    mac.turn(CONSTANTS["CBManagerStateUnknown"])
    again = asyncio.create_task(radio.advertise(NEW.encode()))
    await asyncio.sleep(0.05)
    assert not again.done()
    mac.turn(ON)
    await again
    assert is_of(mac.on_air, NEW)


async def test_cancelled_in_the_middle_of_a_start_nothing_stays_on_air(radio: MacOSRadio, mac: Mac) -> None:
    mac.mute = True
    task = asyncio.create_task(radio.advertise(OLD.encode()))
    await eventually(lambda: bool(mac.shown))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not mac.on_air


async def test_closing_twice_leaves_nothing(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    await radio.close()
    await radio.close()
    assert not mac.on_air
    assert [manager.delegate for manager in mac.managers] == [None]


async def test_what_macos_tells_late_is_heard_by_nobody(radio: MacOSRadio, mac: Mac) -> None:
    await radio.advertise(OLD.encode())
    delegate = mac.managers[0].delegate
    await radio.close()
    gc.collect()
    delegate.peripheralManagerDidUpdateState_(mac.managers[0])
    delegate.peripheralManagerDidStartAdvertising_error_(mac.managers[0], None)


# Listening


@pytest.fixture
def ether(monkeypatch: pytest.MonkeyPatch) -> Ether:
    ether = Ether()
    monkeypatch.setattr("ble.scanner.BleakScanner", ether)
    return ether


async def test_listening_ends_when_bluetooth_is_turned_off(radio: MacOSRadio, mac: Mac, ether: Ether) -> None:
    async with contextlib.aclosing(radio.sightings()) as sightings:
        first = asyncio.ensure_future(anext(sightings))
        await eventually(lambda: ether.running == 1)
        frame = carousel(NEW.encode())[0]
        ether.hear(-50, manufacturer_data={COMPANY: frame.encode()})
        assert (await first).frame == frame
        mac.turn(OFF)
        with pytest.raises(RadioError) as caught:
            await anext(sightings)
    assert caught.value.reason is Reason.OFF
    assert ether.made == [{"scanning_mode": "active", "bluez": {}}]  # bleak refuses the other on macOS
    assert ether.running == 0
    assert [manager.delegate for manager in mac.managers] == [None]


async def test_closing_the_radio_ends_the_sightings(radio: MacOSRadio, ether: Ether) -> None:
    listener = asyncio.ensure_future(anext(radio.sightings(), None))
    await eventually(lambda: ether.running == 1)
    await radio.close()
    assert await listener is None
    assert ether.running == 0


@pytest.mark.parametrize("kind", ["auto", "macos"])
async def test_on_a_mac_it_is_opened(mac: Mac, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from ble.macos import MacOSRadio

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        opened = open_radio(kind, RadioOptions(tx_power=4))
    async with opened as radio:
        assert isinstance(radio, MacOSRadio)
        assert (radio.tx_power, radio.dropped, radio.trouble) == (4, 0, None)
        await radio.advertise(OLD.encode())
        assert is_of(mac.on_air, OLD)
