"""What BlueZ and the kernel say of the adapters."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

from dbus_fast import unpack_variants

from ble.bluez_bus import ADAPTER, ADVERTISING, OBJECTS, RefusedError, call, connect, disconnect
from ble.facts import AdapterFacts, BluetoothFacts
from ble.failure import of_dbus

RFKILL = Path("/sys/class/rfkill")
PLACES = ("/usr/libexec/bluetooth", "/usr/lib/bluetooth", "/usr/sbin", "/usr/local/libexec/bluetooth")
VERSION_SECONDS = 3.0
# What BlueZ calls itself unless its setting DeviceID says otherwise: Linux Foundation, BlueZ, version in hexadecimal.
_MODALIAS = re.compile(r"usb:v1D6Bp0246d([0-9A-F]{2})([0-9A-F]{2})")


async def read_bluez_facts() -> BluetoothFacts:
    """Ask BlueZ over D-Bus. Raises RadioError where it does not answer."""
    bus = await connect()
    try:
        (objects,) = await call(bus, "/", f"{OBJECTS}.GetManagedObjects")
    except RefusedError as refusal:
        raise of_dbus(refusal.name, refusal.text) from refusal
    finally:
        await disconnect(bus)
    found = {path: unpack_variants(interfaces) for path, interfaces in objects.items() if ADAPTER in interfaces}
    running = [version for one in found.values() if (version := running_version(one[ADAPTER]))]
    version = running[0] if running else await installed_version()
    return BluetoothFacts("BlueZ", version, tuple(_adapter(path, found[path]) for path in sorted(found)))


def running_version(properties: dict[str, Any]) -> str:
    """The version of the daemon that runs, as an adapter's Modalias tells it; "" where it does not."""
    match = _MODALIAS.match(str(properties.get("Modalias", "")))
    return f"{int(match[1], 16)}.{int(match[2], 16)}" if match else ""


async def installed_version() -> str:
    """What `bluetoothd --version` prints; "" where there is none, or it takes too long."""
    program = shutil.which("bluetoothd") or shutil.which("bluetoothd", path=":".join(PLACES))
    if program is None:
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(VERSION_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return ""
    text = output.decode(errors="replace").strip()
    return text if re.fullmatch(r"[0-9.]{1,12}", text) else ""


def _adapter(path: str, interfaces: dict[str, dict[str, Any]]) -> AdapterFacts:
    name = path.rpartition("/")[2]
    own, advertising = interfaces[ADAPTER], interfaces.get(ADVERTISING)
    room = advertising or {}
    roles = own.get("Roles")  # BlueZ before 5.50 does not tell them
    return AdapterFacts(
        name=name,
        powered=bool(own.get("Powered")),
        central=None if roles is None else "central" in roles,
        peripheral=advertising is not None and (roles is None or "peripheral" in roles),
        free=room.get("SupportedInstances"),
        active=room.get("ActiveInstances"),
        blocked=_blocked(name),
    )


def _blocked(name: str) -> str:
    for switch in RFKILL.glob("*"):
        if _read(switch / "name") == name:
            if _read(switch / "hard") == "1":
                return "by a switch"
            if _read(switch / "soft") == "1":
                return "by software"
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
