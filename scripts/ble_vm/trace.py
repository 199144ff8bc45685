"""What was on the air and on the wires between guests and adapters, read from the traces. Pure: bytes in, records out.

    sent(text of air.jsonl)             every packet on the air, and who heard it how strongly
    packets(bytes of NAME.btsnoop)      the HCI packets between the guest NAME and its adapter; of these
        ordered(packets)                    what the guest told its adapter to advertise
        reported(packets)                   what the adapter told the guest it heard

Sizes and numbers are those of the Bluetooth Core specification 5.4, volume 4 part E.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SERVICE_DATA_16: Final = 0x16  # a field's type: service data under a 16-bit UUID

_SNOOP_HEADER: Final = struct.Struct(">8sII")
_SNOOP_RECORD: Final = struct.Struct(">IIIIQ")
_SNOOP_UNIX: Final = 0x00DCDDB30F2F8000  # microseconds from btsnoop's year 0 to 1970
_COMMAND, _EVENT = 0x01, 0x04
_EXTENDED_REPORT: Final = struct.Struct("<HB6sBBBbbHB6sB")
_LEGACY_REPORT: Final = struct.Struct("<BB6sB")
_LEGACY_KINDS: Final = ("ADV_IND", "ADV_DIRECT_IND", "ADV_SCAN_IND", "ADV_NONCONN_IND", "SCAN_RSP")
_EXTENDED_KINDS: Final = {
    0x13: "ADV_IND",
    0x15: "ADV_DIRECT_IND",
    0x12: "ADV_SCAN_IND",
    0x10: "ADV_NONCONN_IND",
    0x1A: "SCAN_RSP",
    0x1B: "SCAN_RSP",
}


class TraceError(ValueError):
    """These bytes are no trace, or a trace of something that no controller sends."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet on the air.

    at: Unix seconds; by: the guest's name; kind: the packet's name in the specification, such as ADV_NONCONN_IND;
    address_type: public or random; data: at most 31 bytes if legacy; heard: RSSI (dBm) by the hearer's name.
    """

    at: float
    by: str
    kind: str
    address: str
    address_type: str
    data: bytes
    heard: Mapping[str, int]

    @property
    def fields(self) -> tuple[tuple[int, bytes], ...]:
        """The data's fields, (type, value) each, in the order sent. Raises TraceError."""
        return fields(self.data)


@dataclass(frozen=True, slots=True)
class Packet:
    """One HCI packet. at: Unix seconds; from_host: from guest to adapter; data: from the packet type byte on."""

    at: float
    from_host: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Ordered:
    """What an adapter was told to advertise from then on. address: None for its public one."""

    at: float
    address: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Reported:
    """What an adapter told that it heard. rssi: dBm; kind: as for Sent."""

    at: float
    kind: str
    address: str
    rssi: int
    data: bytes


def fields(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the fields, (type, value) each, of advertised data. Raises TraceError if it is malformed."""
    found = []
    while data:
        length = data[0]
        if not 0 < length < len(data):
            raise TraceError(f"not a sequence of fields: {data.hex()}")
        found.append((data[1], data[2 : 1 + length]))
        data = data[1 + length :]
    return tuple(found)


def service_data(uuid: int, value: bytes) -> tuple[int, bytes]:
    """Return the field that carries this value under a 16-bit UUID, to compare with what was sent."""
    return SERVICE_DATA_16, uuid.to_bytes(2, "little") + value


def sent(log: str) -> list[Sent]:
    """Return what the air's log holds, in the order sent."""
    lines = (json.loads(line) for line in log.splitlines())
    return [Sent(**{**line, "data": bytes.fromhex(line["data"])}) for line in lines]


def packets(snoop: bytes) -> list[Packet]:
    """Return the packets of a btsnoop file (of UART packets), without one that is being written. Raises TraceError."""
    if len(snoop) < _SNOOP_HEADER.size or _SNOOP_HEADER.unpack_from(snoop) != (b"btsnoop\0", 1, 1002):
        raise TraceError("not a btsnoop file of UART packets")
    found = []
    place = _SNOOP_HEADER.size
    while place + _SNOOP_RECORD.size <= len(snoop):
        _, length, flags, _, at = _SNOOP_RECORD.unpack_from(snoop, place)
        place += _SNOOP_RECORD.size
        data = snoop[place : place + length]
        place += length
        if len(data) == length:
            found.append(Packet((at - _SNOOP_UNIX) / 1e6, not flags & 1, data))
    return found


def reported(trace: Iterable[Packet]) -> list[Reported]:
    """Return the advertisements that the adapter reported, in that order."""
    found: list[Reported] = []
    for packet in trace:
        data = packet.data
        if not packet.from_host and data[:2] == bytes([_EVENT, 0x3E]):
            if data[3] == 0x0D:
                found += _extended_reports(packet.at, data[4], data[5:])
            elif data[3] == 0x02:
                found += _legacy_reports(packet.at, data[4], data[5:])
    return found


def _extended_reports(at: float, count: int, data: bytes) -> Iterator[Reported]:
    for _ in range(count):
        kind, _, address, _, _, _, _, rssi, _, _, _, length = _EXTENDED_REPORT.unpack_from(data)
        value = data[_EXTENDED_REPORT.size : _EXTENDED_REPORT.size + length]
        yield Reported(at, _EXTENDED_KINDS.get(kind, "ADV_EXT_IND"), _address(address), rssi, value)
        data = data[_EXTENDED_REPORT.size + length :]


def _legacy_reports(at: float, count: int, data: bytes) -> Iterator[Reported]:
    for _ in range(count):
        kind, _, address, length = _LEGACY_REPORT.unpack_from(data)
        end = _LEGACY_REPORT.size + length
        rssi = int.from_bytes(data[end : end + 1], signed=True)
        yield Reported(at, _LEGACY_KINDS[kind], _address(address), rssi, data[_LEGACY_REPORT.size : end])
        data = data[end + 1 :]


def ordered(trace: Iterable[Packet]) -> list[Ordered]:
    """Return what the adapter was told to advertise, each time that it was started or altered while on."""
    found: list[Ordered] = []
    host = _Host()
    for packet in trace:
        if packet.from_host and packet.data[0] == _COMMAND:
            opcode = int.from_bytes(packet.data[1:3], "little")
            for handle in host.command(opcode, packet.data[4:]):
                state = host.sets[handle]
                found.append(Ordered(packet.at, state.address if state.random else None, bytes(state.data)))
    return found


@dataclass(slots=True)
class _Set:
    address: str | None = None
    random: bool = False
    data: bytearray = field(default_factory=bytearray)
    on: bool = False


class _Host:
    """The advertisements as a host's commands leave them. The legacy one stands beside the sets, under −1."""

    LEGACY = -1

    def __init__(self) -> None:
        self.sets: dict[int, _Set] = {self.LEGACY: _Set()}

    def command(self, opcode: int, data: bytes) -> Sequence[int]:
        """Take a command; return the handles of the advertisements that it started, or altered while on."""
        match opcode:
            case 0x0C03:  # Reset
                self.sets = {self.LEGACY: _Set()}
            case 0x2005:  # LE Set Random Address
                self.sets[self.LEGACY].address = _address(data[:6])
                return self._if_on(self.LEGACY)
            case 0x2006:  # LE Set Advertising Parameters
                self.sets[self.LEGACY].random = bool(data[5] & 1)
            case 0x2008:  # LE Set Advertising Data
                self.sets[self.LEGACY].data = bytearray(data[1 : 1 + data[0]])
                return self._if_on(self.LEGACY)
            case 0x200A:  # LE Set Advertising Enable
                return self._switch(bool(data[0]), [self.LEGACY])
            case 0x2035:  # LE Set Advertising Set Random Address
                self._set(data[0]).address = _address(data[1:7])
                return self._if_on(data[0])
            case 0x2036:  # LE Set Extended Advertising Parameters
                self._set(data[0]).random = bool(data[10] & 1)
            case 0x2037:  # LE Set Extended Advertising Data
                return self._extended_data(data)
            case 0x2039:  # LE Set Extended Advertising Enable
                named = list(data[2 : 2 + 4 * data[1] : 4])
                return self._switch(bool(data[0]), named or [handle for handle in self.sets if handle >= 0])
            case 0x203C:  # LE Remove Advertising Set
                self.sets.pop(data[0], None)
            case 0x203D:  # LE Clear Advertising Sets
                self.sets = {self.LEGACY: self.sets[self.LEGACY]}
        return ()

    def _set(self, handle: int) -> _Set:
        return self.sets.setdefault(handle, _Set())

    def _extended_data(self, data: bytes) -> Sequence[int]:
        handle, operation, value = data[0], data[1], data[4 : 4 + data[3]]
        if operation in (1, 3):  # the first fragment, or all of it
            self._set(handle).data.clear()
        if operation != 4:  # which only changes its number
            self._set(handle).data.extend(value)
        return self._if_on(handle) if operation in (2, 3) else ()

    def _switch(self, on: bool, handles: Sequence[int]) -> Sequence[int]:
        for handle in handles:
            self._set(handle).on = on
        return handles if on else ()

    def _if_on(self, handle: int) -> Sequence[int]:
        return (handle,) if self.sets[handle].on else ()


def _address(little_endian: bytes) -> str:
    return ":".join(f"{byte:02X}" for byte in reversed(little_endian))
