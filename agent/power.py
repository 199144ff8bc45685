"""Whether this machine runs on its battery, and so how its radio should listen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ble.duty import BATTERY, MAINS

if TYPE_CHECKING:
    from ble.duty import Duty

DutyName: TypeAlias = Literal["auto", "mains", "battery"]

SUPPLIES = Path("/sys/class/power_supply")  # Linux; the kernel's Documentation/ABI/testing/sysfs-class-power


def duty_of(name: DutyName, supplies: Path = SUPPLIES) -> Duty:
    """The duty of this name; "auto" is for whatever the machine runs on now."""
    if name == "auto":
        return BATTERY if on_battery(supplies) else MAINS
    return BATTERY if name == "battery" else MAINS


def on_battery(supplies: Path = SUPPLIES) -> bool:
    """Whether a battery of this machine is being discharged. False where the platform does not say."""
    try:
        found = sorted(supplies.iterdir())
    except OSError:
        return False
    return any(_drains(supply) for supply in found)


def _drains(supply: Path) -> bool:
    # A mouse or a headset reports its battery here, too, of scope "Device".
    return (
        _read(supply, "type") == "Battery"
        and _read(supply, "scope") != "Device"
        and _read(supply, "status") == "Discharging"
    )


def _read(supply: Path, name: str) -> str:
    try:
        return (supply / name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
