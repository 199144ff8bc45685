"""What this machine's Bluetooth says of itself, without a radio being opened: for whoever looks for a fault."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """One adapter.

    central, peripheral: whether it can listen and whether it can send with LE; None where that is not told
    free, active: advertising instances that are left, and that somebody uses; None where that is not told
    blocked: "" or what keeps it off, "by software" (rfkill) or "by a switch"
    """

    name: str
    powered: bool
    central: bool | None = None
    peripheral: bool | None = None
    free: int | None = None
    active: int | None = None
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class BluetoothFacts:
    """The system's Bluetooth. version: "" where it is not told; adapters: None where they show only once on air."""

    stack: str
    version: str
    adapters: tuple[AdapterFacts, ...] | None


async def read_facts() -> BluetoothFacts:
    """Ask the system, within a few seconds. Raises RadioError."""
    name: str = sys.platform
    if name == "linux":
        from ble.bluez_facts import read_bluez_facts

        return await read_bluez_facts()
    stacks = {"win32": "Bluetooth of Windows", "darwin": "Bluetooth of macOS"}
    return BluetoothFacts(stacks.get(name, f"Bluetooth of {name}"), platform.release(), None)
