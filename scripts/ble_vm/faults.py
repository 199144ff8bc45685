"""What can happen to a radio on Linux, done to a guest: each fault is brought about, and its cause taken away again."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scripts.ble_vm.image import VmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.ble_vm.air import Air
    from scripts.ble_vm.guest import Guest, Job

MOST: Final = 150.0  # seconds until a fault must be mended
_POLL: Final = 0.1  # seconds
_POWER: Final = (
    "dbus-send --system --print-reply --dest=org.bluez /org/bluez/hci0 org.freedesktop.DBus.Properties.Set "
    "string:org.bluez.Adapter1 string:Powered variant:boolean:{} >/dev/null"
)
_START_BLUEZ: Final = """
daemon=/usr/libexec/bluetooth/bluetoothd
[ -x $daemon ] || daemon=/usr/lib/bluetooth/bluetoothd
setsid $daemon -n >>/run/share/bluetoothd.log 2>&1 </dev/null &
"""
# Nobody reaps what ended in a guest, so ending is seen from what goes with it, or given a moment.
_KILL: Final = "kill -s {1} $(busybox pidof {0}) 2>/dev/null; sleep 0.5"
_START_BUS: Final = "rm -f /run/dbus/pid; dbus-daemon --system --fork"
# Both commands to stop a scan, the older one and that of extended advertising: whichever the adapter knows.
_STOP_SCAN: Final = "hcitool cmd 0x08 0x000c 00 00; hcitool cmd 0x08 0x0042 00 00 00 00 00 00"
# A busy guest's kernel can fail to set the adapter up, and BlueZ then has none: no device's fault, so plug in again.
_PLUG_IN: Final = """
for try in 1 2 3; do
    setsid btattach -B /dev/ttyS1 -P h4 >>/run/share/btattach.log 2>&1 </dev/null &
    for look in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        dbus-send --system --print-reply --dest=org.bluez /org/bluez/hci0 org.freedesktop.DBus.Properties.Get \\
            string:org.bluez.Adapter1 string:Address >/dev/null 2>&1 && exit 0
        sleep 0.2
    done
    kill -s TERM $(busybox pidof btattach)
    sleep 1
done
echo "BlueZ does not take the adapter that is back" >&2
exit 1
"""
_STOP_FIND: Final = "timeout 5 btmgmt --index 0 stop-find -l; true"


@dataclass(frozen=True, slots=True)
class Fault:
    """begin, end: shell commands in the guest, as root; unplugged: whether the adapter loses its power in between."""

    name: str
    begin: str
    end: str
    unplugged: bool = False

    async def bring_about(self, guest: Guest, air: Air) -> None:
        """Let it happen. Raises VmError."""
        await _run(guest, self.begin)
        if self.unplugged:
            air.unplug(guest.name)

    async def take_away(self, guest: Guest) -> None:
        """Take its cause away; what it did to the radio is the radio's to mend. Raises VmError."""
        await _run(guest, self.end)


KILLED: Final = Fault("bluetoothd killed", _KILL.format("bluetoothd", "KILL"), _START_BLUEZ)
STOPPED: Final = Fault("bluetoothd stopped", _KILL.format("bluetoothd", "TERM"), _START_BLUEZ)
SWITCHED: Final = Fault("adapter off and on", _POWER.format("false"), _POWER.format("true"))
UNPLUGGED: Final = Fault(
    "adapter removed and back",
    _KILL.format("btattach", "TERM") + "; while [ -e /sys/class/bluetooth/hci0 ]; do sleep 0.1; done",
    _PLUG_IN,
    unplugged=True,
)
BUS: Final = Fault("D-Bus restarted", _KILL.format("dbus-daemon", "TERM"), _START_BUS + _START_BLUEZ)
OUTBID: Final = Fault("discovery stopped by another program", _STOP_FIND, "true")
DEAFENED: Final = Fault("scan stopped behind the kernel's back", _STOP_SCAN, "true")


async def _run(guest: Guest, script: str) -> None:
    result = await guest.run(["sh", "-c", script], within=60)
    if result.code:
        raise VmError(f"in guest {guest.name}, a fault could not be made: {result.stderr or result.stdout}")


@dataclass(frozen=True, slots=True)
class Mending:
    """How a device got over a fault, in seconds: noticed since it began, mended since its cause was gone.

    deaf, mute: until it said so, None if it never did; mended: until it heard, was heard, and said that all is well.
    """

    fault: str
    deaf: float | None
    mute: float | None
    mended: float


async def watch_mending(fault: Fault, guest: Guest, device: Job, peer: Job, air: Air, *, lasts: float) -> Mending:
    """Let a fault happen to a guest with a device on it, for at least so many seconds; return how it is got over.

    device, peer: running `scripts.ble_vm.device`. Raises VmError where it is not within 150 s after its cause is gone.
    """
    noticed: dict[str, float] = {}
    told = len(_said(device, "deaf|mute"))
    begun = time.monotonic()
    await fault.bring_about(guest, air)
    while (passed := time.monotonic() - begun) < lasts:
        for line in _said(device, "deaf|mute")[told:]:
            noticed.setdefault(line.split()[0], passed)
        await asyncio.sleep(_POLL)
    await fault.take_away(guest)
    gone = time.monotonic()
    # In the order in which these can be known: it says so, hears somebody, is heard.
    await _until(lambda: _is_well(device), fault, gone)
    heard, was_heard = _heard(device, peer), _heard(peer, device)
    await _until(lambda: _heard(device, peer) > heard and _heard(peer, device) > was_heard, fault, gone)
    return Mending(fault.name, noticed.get("deaf"), noticed.get("mute"), time.monotonic() - gone)


def _is_well(device: Job) -> bool:
    last = {line.split()[0]: line.split()[1] for line in _said(device, "deaf|mute")}
    return all(float(since) == 0 for since in last.values())


def _heard(hearer: Job, other: Job) -> int:
    """How many frames the one has heard of what the other sends at the moment."""
    return len(_said(hearer, f"heard {_said(other, 'sent')[-1].split()[1]}"))


def _said(job: Job, words: str) -> list[str]:
    # Whole lines: the last one may be under way.
    return re.findall(rf"^((?:{words})\b.*)\n", job.stdout, re.MULTILINE)


async def _until(condition: Callable[[], bool], fault: Fault, since: float) -> None:
    while not condition():
        if time.monotonic() - since > MOST:
            raise VmError(f"{fault.name}: not mended {MOST:.0f} s after its cause was gone")
        await asyncio.sleep(_POLL)
