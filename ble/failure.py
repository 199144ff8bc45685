"""What a failure on the outside means: errors of bleak, D-Bus and the system, as RadioError with a remedy."""

from __future__ import annotations

import sys

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from ble.radio import RadioError, Reason

# What bleak is known to let through: its own errors, and those of the system below it.
EXPECTED = (BleakError, OSError, EOFError, TimeoutError)

PLATFORM: str = sys.platform

_REMEDY = {
    Reason.ABSENT: "Plug in or enable a Bluetooth adapter",
    Reason.OFF: "Turn Bluetooth on",
    Reason.DENIED: "Allow this program to use Bluetooth",
    Reason.UNSUPPORTED: "Use another adapter, or the simulated radio",
    Reason.FAILED: "Try again; if it stays, restart Bluetooth",
}

# How that is done, where a platform has a way of its own.
_MEANS = {
    "linux": {
        Reason.ABSENT: ", and start the Bluetooth service (systemctl start bluetooth)",
        Reason.OFF: " (rfkill unblock bluetooth, then bluetoothctl power on)",
        Reason.DENIED: " (join the group bluetooth, then log in again)",
        Reason.FAILED: " (systemctl restart bluetooth)",
    },
    "win32": {
        Reason.OFF: " (Settings, Bluetooth & devices; not in flight mode)",
        Reason.DENIED: " (Settings, Privacy & security, Radios; on a managed machine ask who manages it)",
        Reason.FAILED: ' (off and on in Settings, or the service "Bluetooth Support Service")',
    },
    "darwin": {
        Reason.OFF: " (System Settings, Bluetooth)",
        Reason.DENIED: " (System Settings, Privacy & Security, Bluetooth: the terminal or program it is started from)",
        Reason.FAILED: " (off and on in System Settings)",
    },
}

_NOT_AVAILABLE = {
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: Reason.ABSENT,
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: Reason.UNSUPPORTED,
    BleakBluetoothNotAvailableReason.POWERED_OFF: Reason.OFF,
    BleakBluetoothNotAvailableReason.DENIED_BY_USER: Reason.DENIED,
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: Reason.DENIED,
    BleakBluetoothNotAvailableReason.DENIED_BY_UNKNOWN: Reason.DENIED,
}

_DBUS = {
    "org.bluez.Error.NotReady": Reason.OFF,
    "org.bluez.Error.NotSupported": Reason.UNSUPPORTED,
    "org.freedesktop.DBus.Error.AccessDenied": Reason.DENIED,
    "org.freedesktop.DBus.Error.AuthFailed": Reason.DENIED,
    # bluetoothd does not run, or knows no such adapter.
    "org.freedesktop.DBus.Error.ServiceUnknown": Reason.ABSENT,
    "org.freedesktop.DBus.Error.NameHasNoOwner": Reason.ABSENT,
    "org.freedesktop.DBus.Error.UnknownObject": Reason.ABSENT,
    # An adapter without the interface asked for.
    "org.freedesktop.DBus.Error.UnknownMethod": Reason.UNSUPPORTED,
    "org.freedesktop.DBus.Error.UnknownInterface": Reason.UNSUPPORTED,
}


def failure(reason: Reason, what: str) -> RadioError:
    """Return the error for what happened, ending with what the user should do."""
    means = _MEANS.get(PLATFORM, {}).get(reason, "")
    return RadioError(reason, f"{what.rstrip('.')}. {_REMEDY[reason]}{means}.")


def of_dbus(name: str, text: str) -> RadioError:
    """Return the error for an error reply of BlueZ or of the bus."""
    reason = _DBUS.get(name, Reason.FAILED)
    return failure(reason, f"Bluetooth answered {name.rpartition('.')[2]}: {text or 'no more is said'}")


def of_exception(error: BaseException) -> RadioError:
    """Return the error for an exception of bleak or of the system."""
    if isinstance(error, BleakDBusError):
        return of_dbus(error.dbus_error, error.dbus_error_details or "")
    if isinstance(error, BleakBluetoothNotAvailableError):
        return failure(_NOT_AVAILABLE.get(error.reason, Reason.FAILED), str(error.args[0]))
    if isinstance(error, TimeoutError):
        return failure(Reason.FAILED, "Bluetooth did not answer in time")
    # Where an adapter is named, bleak tells its absence in words only.
    if isinstance(error, BleakError) and "not found" in str(error):
        return failure(Reason.ABSENT, str(error))
    if isinstance(error, PermissionError):
        return failure(Reason.DENIED, f"The system bus may not be used: {error}")
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return failure(Reason.ABSENT, f"There is no system bus: {error}")
    return failure(Reason.FAILED, f"Bluetooth failed with {type(error).__name__}: {error}")
