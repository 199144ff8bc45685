"""What a watcher of the network has: when packets went over the loopback interface, between whom, and how large.

Packets are captured by the kernel's packet socket, headers only. Each simulated device has a source address of its own,
127.1.HIGH.LOW, which stands for a household's line.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event

IPV4 = 0x0800
TCP = 6
INCOMING = 0  # on the loopback interface each packet is seen going out and coming in: once is enough
SO_TIMESTAMPNS = 35
SNAP = 64  # bytes of IP and TCP headers
BUFFER = 1 << 26
RECORD = struct.Struct("!dHHBI")  # time, device, its port, whether it is from the device, bytes of payload
SYN, FIN = 2, 1


def address_of(device: int) -> str:
    """The source address of this device, 0 to 65535."""
    return f"127.1.{device >> 8}.{device & 255}"


@dataclass(slots=True)
class Connection:
    """One connection as seen from outside. packets: (seconds since 1970, whether from the device, bytes of payload)."""

    device: int
    packets: list[tuple[float, bool, int]] = field(default_factory=list)

    @property
    def at(self) -> float:
        """When it began."""
        return self.packets[0][0]

    @property
    def ended(self) -> float:
        """When its last byte came."""
        return self.packets[-1][0]

    @property
    def up(self) -> int:
        """Bytes from the device."""
        return sum(size for _, ours, size in self.packets if ours)

    @property
    def down(self) -> int:
        """Bytes to the device."""
        return sum(size for _, ours, size in self.packets if not ours)

    @property
    def waited(self) -> float:
        """The longest that the device waited for an answer, s."""
        longest, asked = 0.0, self.at
        for at, ours, size in self.packets:
            if ours and size:
                asked = at
            elif size:
                longest = max(longest, at - asked)
                asked = at
        return longest


@contextlib.contextmanager
def capturing(file: Path) -> Iterator[None]:
    """Write what goes over the loopback interface into this file, until the end of the block. Raises Misuse."""
    context = multiprocessing.get_context("spawn")
    begun, over = context.Event(), context.Event()
    process = context.Process(target=_capture, args=(str(file), begun, over), daemon=True)
    process.start()
    try:
        if not begun.wait(30):
            raise Misuse(
                "packets cannot be captured here; run this as root, or in a namespace: unshare -rn, ip link set lo up"
            )
        yield
    finally:
        over.set()
        process.join(30)


def _capture(file: str, begun: Event, over: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4)) as tap, Path(file).open("wb") as out:
        tap.bind(("lo", IPV4))
        tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):
            tap.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
        tap.settimeout(0.5)
        begun.set()
        while True:
            try:
                data, ancillary, _, origin = tap.recvmsg(SNAP, 64)
            except TimeoutError:
                if over.is_set():
                    return
                continue
            if origin[2] == INCOMING and (record := _record(data, ancillary)):
                out.write(record)


def _record(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes | None:
    if len(data) < 40 or data[9] != TCP:
        return None
    ours = data[12:14] == b"\x7f\x01"
    if ours == (data[16:18] == b"\x7f\x01"):
        return None  # not between a device and the backend
    header = (data[0] & 15) * 4
    source, target = struct.unpack_from("!HH", data, header)
    payload = struct.unpack_from("!H", data, 2)[0] - header - (data[header + 12] >> 4) * 4
    device = struct.unpack_from("!H", data, 14 if ours else 18)[0]
    seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
    port = source if ours else target
    flags = data[header + 13]
    if not payload and not flags & SYN:
        return None
    return RECORD.pack(seconds + nanoseconds / 1e9, device, port, ours | (flags & SYN), max(payload, 0))


def read(file: Path) -> list[Connection]:
    """The connections in such a file, in the order in which they began."""
    open_: dict[tuple[int, int], Connection] = {}
    found = []
    for at, device, port, how, size in RECORD.iter_unpack(file.read_bytes()):
        ours, opening = bool(how & 1), bool(how & SYN)
        if opening and ours:
            open_[device, port] = Connection(device)
            found.append(open_[device, port])
        if (device, port) in open_:
            open_[device, port].packets.append((at, ours, size))
    return sorted(found, key=lambda one: one.at)
