"""Which radio is opened."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ble.frame import Block
from ble.radio import RadioError, RadioOptions, Reason, SystemClock, open_radio
from ble.simulated import Air


@pytest.mark.parametrize("kind", ["auto", "bluez"])
async def test_on_linux_it_is_bluez(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pytest.importorskip("dbus_fast")
    from ble.bluez import BlueZRadio

    monkeypatch.setattr(sys, "platform", "linux")
    async with open_radio(kind, RadioOptions(tx_power=4)) as radio:
        assert isinstance(radio, BlueZRadio)
        assert radio.tx_power == 4
        assert radio.dropped == 0
        assert radio.trouble is None


@pytest.mark.parametrize(
    ("platform", "kind"),
    [
        ("linux", "windows"),
        ("linux", "macos"),
        ("win32", "bluez"),
        ("win32", "macos"),
        ("darwin", "bluez"),
        ("darwin", "windows"),
        ("freebsd", "auto"),
        ("freebsd", "bluez"),
    ],
)
def test_elsewhere_it_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, platform: str, kind: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(RadioError, match=platform) as caught:
        open_radio(kind)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(RadioError, match="choose auto, bluez, windows, macos or simulated") as caught:
        open_radio("carrier pigeon")
    assert caught.value.reason is Reason.UNSUPPORTED


async def test_simulated_radios_share_the_air_they_are_given() -> None:
    air = Air()
    one = open_radio("simulated", RadioOptions(air=air, name="one", place=(1.0, 2.0), tx_power=-3))
    async with one:
        assert one.tx_power == -3
        assert one.dropped == 0
        assert one.trouble is None
        await one.advertise(Block(bytes(32), -3).encode())
    async with open_radio("simulated") as alone:
        await alone.advertise(None)


def test_the_simulated_radio_needs_no_bluetooth_library() -> None:
    program = "import sys, ble.simulated; assert not {'bleak', 'dbus_fast'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_the_system_s_clock() -> None:
    clock = SystemClock()
    before = time.time()
    await clock.sleep(0.0)
    assert before <= clock.now() <= time.time()
