"""What may be on the air: the carousel's frames, each under an address of its own, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from scripts.ble_vm import linkage, trace

if TYPE_CHECKING:
    from pathlib import Path

Packets: TypeAlias = Sequence[trace.Sent]


def check_carousel(packets: Packets) -> list[int]:
    """What one device sent: blocks' frames in turn, every time under a new address, and nothing else.

    Returns the key ids in their order.
    """
    assert linkage.violations(packets) == []
    return linkage.turns(linkage.shown(packets))


def check_wires(folder: Path, log: Packets) -> None:
    """What the air says was sent and heard is what the hosts ordered, and what the adapters reported."""
    for here in "ab":
        wire = trace.packets((folder / f"{here}.btsnoop").read_bytes())
        assert linkage.wire_violations(wire, here, log) == []
