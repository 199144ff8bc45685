"""What may be on the air: the carousel's frames, each under an address of its own, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ble.carriage import SERVICE_UUID
from ble.frame import Frame
from scripts.ble_vm import trace

if TYPE_CHECKING:
    from pathlib import Path

Packets: TypeAlias = Sequence[trace.Sent]


def frame(packet: trace.Sent) -> Frame:
    """The frame in a packet, which must hold nothing besides but the flag that there is no classic Bluetooth."""
    found = re.fullmatch(rb"(?:\x02\x01[\x04\x06])?\x13\x16(..)(.{16})", packet.data, re.DOTALL)
    assert found is not None, packet
    assert int.from_bytes(found[1], "little") == SERVICE_UUID
    return Frame.decode(found[2])


def check_carousel(packets: Packets) -> list[int]:
    """What one device sent: blocks' frames in turn, every time under a new address, and nothing else.

    Returns the key ids in their order; one that came back after another would be there twice.
    """
    assert {one.kind for one in packets} == {"ADV_NONCONN_IND"}
    assert {one.address_type for one in packets} == {"random"}
    assert all(int(one.address[:2], 16) < 0x40 for one in packets), "an address can be resolved"
    shown = list(dict.fromkeys((one.address, frame(one)) for one in packets))
    addresses = [address for address, _ in shown]
    assert len(set(addresses)) == len(addresses), "an address carried two frames"
    return [
        one.key_id for number, (_, one) in enumerate(shown) if not number or one.key_id != shown[number - 1][1].key_id
    ]


def check_wires(folder: Path, log: Packets) -> None:
    """What the air says was sent and heard is what the hosts ordered, and what the adapters reported."""
    for here in "ab":
        wire = trace.packets((folder / f"{here}.btsnoop").read_bytes())
        ordered = {(one.address, one.data) for one in trace.ordered(wire)}
        assert {(one.address, one.data) for one in log if one.by == here} <= ordered
        arrived = {(one.address, one.data, one.heard[here]) for one in log if here in one.heard}
        assert {(one.address, one.data, one.rssi) for one in trace.reported(wire)} <= arrived
