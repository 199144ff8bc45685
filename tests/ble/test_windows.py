"""The radio of Windows, with a fake of just what it calls there, and of bleak's scanner.

The fake was compared with the real packages by `python -m tests.ble.check_wheels`, as was the module itself; which
versions, that program says. Nothing of this has run on Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import sys
from typing import TYPE_CHECKING

import pytest

from ble.carriage import COMPANY, Carriage
from ble.frame import Block, FrameError, carousel
from ble.radio import RadioError, RadioOptions, Reason, open_radio
from tests.ble.conftest import Noon
from tests.ble.fake_bleak import Ether
from tests.ble.fake_winrt import BluetoothError, RadioState, Windows, WindowsError
from tests.ble.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ble.windows import WindowsRadio

OLD = Block(b"o" * 32, 0)
NEW = Block(b"n" * 32, 0)


def encoded(block: Block) -> set[bytes]:
    return {frame.encode() for frame in carousel(block.encode())}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Windows]:
    """A Windows that is there while the module is imported, and the module in a hurry."""
    machine = Windows()
    for name, module in machine.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "ble.windows", raising=False)
    importlib.import_module("ble.windows")
    monkeypatch.setattr("ble.failure.PLATFORM", "win32")
    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.002))
    monkeypatch.setattr("ble.rotation.RETRY", 0.01)
    monkeypatch.setattr("ble.windows.POLL", 0.01)
    monkeypatch.setattr("ble.windows.WATCH", 0.01)
    yield machine
    del sys.modules["ble.windows"]


@pytest.fixture
async def radio(windows: Windows) -> AsyncIterator[WindowsRadio]:
    from ble.windows import WindowsRadio

    async with WindowsRadio(dwell=0.01, tx_power=3, clock=Noon(), chance=random.Random(0)) as radio:
        yield radio
        windows.mute.clear()


async def trouble(radio: WindowsRadio) -> RadioError:
    await eventually(lambda: radio.trouble is not None)
    assert radio.trouble is not None
    return radio.trouble


# Advertising


async def test_each_frame_has_a_publisher_of_its_own(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    await eventually(lambda: len(windows.data) >= 8)
    await radio.advertise(None)
    assert not windows.on_air
    assert {publisher.starts for publisher in windows.publishers} == {1}
    assert set(windows.data[:4]) == set(windows.data[4:8]) == encoded(OLD)
    assert not any(publisher._handlers for publisher in windows.publishers)


async def test_nothing_else_is_in_the_packet(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    (publisher,) = windows.on_air
    (data,) = publisher.advertisement.manufacturer_data
    assert data.company_id == COMPANY
    assert len(data.data) == 16
    assert set(vars(publisher.advertisement)) == {"manufacturer_data"}


async def test_nothing_of_the_old_block_is_on_air_once_the_new_one_is(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    await eventually(lambda: len(windows.data) >= 3)
    await radio.advertise(NEW.encode())
    changed = len(windows.data)
    assert [publisher.advertisement.manufacturer_data[0].data in encoded(NEW) for publisher in windows.on_air] == [True]
    await eventually(lambda: len(windows.data) >= changed + 4)
    assert set(windows.data[: changed - 1]) <= encoded(OLD)
    assert set(windows.data[changed - 1 :]) <= encoded(NEW)


async def test_a_malformed_block_changes_nothing(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    with pytest.raises(FrameError):
        await radio.advertise(bytes(36))
    await eventually(lambda: len(windows.on_air) == 1)


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (BluetoothError.RADIO_NOT_AVAILABLE, Reason.OFF, "flight mode"),
        (BluetoothError.DISABLED_BY_USER, Reason.DENIED, "Privacy & security"),
        (BluetoothError.DISABLED_BY_POLICY, Reason.DENIED, "who manages it"),
        (BluetoothError.CONSENT_REQUIRED, Reason.DENIED, "Privacy & security"),
        (BluetoothError.NOT_SUPPORTED, Reason.UNSUPPORTED, "another adapter"),
        (BluetoothError.TRANSPORT_NOT_SUPPORTED, Reason.UNSUPPORTED, "another adapter"),
        (BluetoothError.RESOURCE_IN_USE, Reason.FAILED, "RESOURCE_IN_USE"),
        (BluetoothError.OTHER_ERROR, Reason.FAILED, "OTHER_ERROR"),
        (BluetoothError.SUCCESS, Reason.FAILED, "does not say why"),
    ],
)
async def test_an_aborted_start_is_an_error(
    radio: WindowsRadio, windows: Windows, error: BluetoothError, reason: Reason, remedy: str
) -> None:
    windows.abort = error
    with pytest.raises(RadioError, match=remedy) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is reason
    assert not windows.on_air


@pytest.mark.parametrize(
    ("hresult", "reason"),
    [
        (-2147024891, Reason.DENIED),
        (-2147024846, Reason.UNSUPPORTED),
        (-2147020577, Reason.OFF),
        (-2147467259, Reason.FAILED),
    ],
)
async def test_what_a_call_raises_is_an_error(
    radio: WindowsRadio, windows: Windows, hresult: int, reason: Reason
) -> None:
    windows.refusal = WindowsError(hresult)
    with pytest.raises(RadioError) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is reason
    await radio.advertise(OLD.encode())
    assert len(windows.on_air) == 1


async def test_an_adapter_that_is_missing_off_or_too_old(radio: WindowsRadio, windows: Windows) -> None:
    windows.present = False
    for attempt in (radio.advertise(OLD.encode()), anext(radio.sightings())):
        with pytest.raises(RadioError, match="Plug in") as caught:
            await attempt
        assert caught.value.reason is Reason.ABSENT
    windows.present, windows.state = True, RadioState.OFF
    with pytest.raises(RadioError) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is Reason.OFF
    windows.low_energy = False
    with pytest.raises(RadioError) as caught:
        await radio.advertise(OLD.encode())
    assert caught.value.reason is Reason.UNSUPPORTED
    assert not windows.data


async def test_an_adapter_that_does_not_answer_is_an_error(
    radio: WindowsRadio, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ble.windows.CALL", 0.05)
    windows.hangs = True
    with pytest.raises(RadioError, match="in time"):
        await radio.advertise(OLD.encode())


async def test_a_start_that_hangs_is_an_error_and_leaves_nothing(
    radio: WindowsRadio, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ble.windows.START", 0.05)
    windows.mute.add("STARTED")
    with pytest.raises(RadioError, match="in time"):
        await radio.advertise(OLD.encode())
    assert [publisher.status.name for publisher in windows.publishers] == ["STOPPED"]
    windows.mute.clear()
    await radio.advertise(OLD.encode())
    assert len(windows.on_air) == 1


async def test_nothing_is_started_until_the_former_frame_is_known_to_be_off(
    radio: WindowsRadio, windows: Windows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ble.windows.STOP", 0.05)
    await radio.advertise(OLD.encode())
    windows.mute.add("STOPPED")
    with pytest.raises(RadioError, match="off the air"):
        await radio.advertise(NEW.encode())
    assert "no other is sent" in caplog.text
    assert set(windows.data) <= encoded(OLD)
    windows.mute.clear()
    await radio.advertise(NEW.encode())
    assert windows.data[-1] in encoded(NEW)
    assert len(windows.on_air) == 1


async def test_a_status_that_comes_without_an_event_is_seen(radio: WindowsRadio, windows: Windows) -> None:
    windows.silent.update(("STARTED", "STOPPED"))
    await radio.advertise(OLD.encode())
    await eventually(lambda: len(windows.data) >= 3)
    windows.silent.add("ABORTED")
    windows.abort = BluetoothError.OTHER_ERROR
    assert "does not say why" in str(await trouble(radio))


async def test_advertising_outlives_bluetooth_turned_off_and_on(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    windows.state = RadioState.OFF
    for publisher in windows.on_air:
        publisher.reach("ABORTED", BluetoothError.RADIO_NOT_AVAILABLE)
    assert (await trouble(radio)).reason is Reason.OFF
    before = len(windows.data)
    windows.state = RadioState.ON
    await eventually(lambda: len(windows.data) >= before + 4)
    assert radio.trouble is None


async def test_cancelled_in_the_middle_of_a_start_nothing_stays_on_air(radio: WindowsRadio, windows: Windows) -> None:
    windows.mute.update(("WAITING", "STARTED"))
    task = asyncio.create_task(radio.advertise(OLD.encode()))
    await eventually(lambda: bool(windows.publishers and windows.publishers[0].starts))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [publisher.status.name for publisher in windows.publishers] == ["STOPPED"]


async def test_closing_twice_leaves_nothing(radio: WindowsRadio, windows: Windows) -> None:
    await radio.advertise(OLD.encode())
    await radio.close()
    await radio.close()
    assert not windows.on_air


# Listening


@pytest.fixture
def ether(monkeypatch: pytest.MonkeyPatch) -> Ether:
    ether = Ether()
    monkeypatch.setattr("ble.scanner.BleakScanner", ether)
    return ether


async def test_listening_is_passive_and_ends_when_bluetooth_is_turned_off(
    radio: WindowsRadio, windows: Windows, ether: Ether
) -> None:
    async with contextlib.aclosing(radio.sightings()) as sightings:
        first = asyncio.ensure_future(anext(sightings))
        await eventually(lambda: ether.running == 1)
        frame = carousel(NEW.encode())[0]
        ether.hear(-50, service_data={Carriage().service: frame.encode()})
        assert (await first).frame == frame
        windows.state = RadioState.OFF
        with pytest.raises(RadioError) as caught:
            await anext(sightings)
    assert caught.value.reason is Reason.OFF
    assert ether.made == [{"scanning_mode": "passive", "bluez": {}}]
    assert ether.running == 0


async def test_closing_the_radio_ends_the_sightings(radio: WindowsRadio, ether: Ether) -> None:
    listener = asyncio.ensure_future(anext(radio.sightings(), None))
    await eventually(lambda: ether.running == 1)
    await radio.close()
    assert await listener is None
    assert ether.running == 0


@pytest.mark.parametrize("kind", ["auto", "windows"])
async def test_on_windows_it_is_opened(windows: Windows, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from ble.windows import WindowsRadio

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        opened = open_radio(kind, RadioOptions(tx_power=4, company=0x0102))
    async with opened as radio:
        assert isinstance(radio, WindowsRadio)
        assert (radio.tx_power, radio.dropped, radio.trouble) == (4, 0, None)
        await radio.advertise(OLD.encode())
        assert windows.on_air[0].advertisement.manufacturer_data[0].company_id == 0x0102
