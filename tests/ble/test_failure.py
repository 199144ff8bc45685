"""Every failure of the outside gets a reason, and says what to do."""

from __future__ import annotations

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from ble.failure import failure, of_dbus, of_exception
from ble.radio import Reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BleakBluetoothNotAvailableError("none", BleakBluetoothNotAvailableReason.NO_BLUETOOTH), Reason.ABSENT),
        (BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF), Reason.OFF),
        (BleakBluetoothNotAvailableError("no", BleakBluetoothNotAvailableReason.DENIED_BY_USER), Reason.DENIED),
        (BleakBluetoothNotAvailableError("?", BleakBluetoothNotAvailableReason.UNKNOWN), Reason.FAILED),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), Reason.OFF),
        (BleakDBusError("org.bluez.Error.InProgress", []), Reason.FAILED),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["none"]), Reason.ABSENT),
        (BleakError("adapter 'hci1' not found"), Reason.ABSENT),
        (BleakError("something else"), Reason.FAILED),
        (FileNotFoundError(2, "No such file or directory"), Reason.ABSENT),
        (ConnectionRefusedError(111, "refused"), Reason.ABSENT),
        (PermissionError(13, "denied"), Reason.DENIED),
        (BrokenPipeError(32, "broken"), Reason.FAILED),
        (EOFError(), Reason.FAILED),
        (TimeoutError(), Reason.FAILED),
    ],
    ids=repr,
)
def test_reasons_of_exceptions(error: Exception, reason: Reason) -> None:
    assert of_exception(error).reason is reason


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin", "freebsd"])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_remedy(monkeypatch: pytest.MonkeyPatch, reason: Reason, platform: str) -> None:
    monkeypatch.setattr("ble.failure.PLATFORM", platform)
    text = str(failure(reason, "It broke."))
    assert text.endswith(".")
    assert ("systemctl" in text) <= (platform == "linux")
    assert text.startswith("It broke. ")
    assert len(text) > len("It broke. ")
    assert ".." not in text


def test_an_unknown_answer_is_quoted() -> None:
    error = of_dbus("org.bluez.Error.Blocked", "Blocked through rfkill")
    assert error.reason is Reason.FAILED
    assert "Blocked: Blocked through rfkill" in str(error)
