"""What would link one identifier of a device with its next, looked for in what the device sent. Pure.

A device may show the carousel's frames, each under an address of its own, the blocks one after the other, their
slices in random order, and nothing else. `violations` says where it did not; `Orders` whether the order was random.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from ble.carriage import SERVICE_UUID
from ble.frame import SLICES, Frame
from scripts.ble_vm import trace
from scripts.ble_vm.trace import TraceError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

# BlueZ from 5.82 on says for itself, in three bytes of Flags, that there is no classic Bluetooth.
_PACKET: Final = re.compile(rb"(?:\x02\x01[\x04\x06])?\x13\x16(..)(.{16})", re.DOTALL)
_NON_RESOLVABLE: Final = 0x40  # the highest byte of such an address is below (volume 6 part B, 1.3.2.2)
_DRAWS: Final = 20_000


class Shown(NamedTuple):
    """A frame under an address, however often it was sent."""

    address: str | None
    frame: Frame


def frame(data: bytes) -> Frame:
    """The frame in a packet. Raises TraceError if there is none, or anything besides but Flags."""
    found = _PACKET.fullmatch(data)
    if found is None or int.from_bytes(found[1], "little") != SERVICE_UUID:
        raise TraceError(f"not one frame and nothing else: {data.hex()}")
    return Frame.decode(found[2])


def shown(packets: Iterable[trace.Sent | trace.Ordered | trace.Reported]) -> list[Shown]:
    """What was shown, in the order in which it was first. Raises TraceError."""
    return list(dict.fromkeys(Shown(one.address, frame(one.data)) for one in packets))


def turns(frames: Sequence[Shown]) -> list[int]:
    """The key ids in their order; one that came back after another is there twice."""
    return [key for key, _ in groupby(one.frame.key_id for one in frames)]


def violations(packets: Sequence[trace.Sent]) -> list[str]:
    """What one device sent that it must not, in a line each: the packets' form, then what they link."""
    found = {f"a packet {one.kind} is on the air" for one in packets if one.kind != "ADV_NONCONN_IND"}
    found |= {f"{one.address} can be resolved, or is for ever" for one in packets if not _fleeting(one)}
    return sorted(found) + linked(packets)


def linked(packets: Sequence[trace.Sent | trace.Ordered | trace.Reported]) -> list[str]:
    """What ties two blocks together: foreign content, an address with two frames, a block that comes back."""
    try:
        frames = shown(packets)
    except TraceError as error:
        return [str(error)]
    addresses = Counter(one.address for one in frames)
    returns = Counter(turns(frames))
    return [
        *(f"{address or 'the public address'} carried {n} frames" for address, n in addresses.items() if n > 1),
        *("the public address carried a frame" for one in addresses if one is None),
        *(f"key id {key} came back {n - 1} times after another" for key, n in returns.items() if n > 1),
    ]


def wire_violations(wire: Iterable[trace.Packet], name: str, log: Sequence[trace.Sent]) -> list[str]:
    """Where the guest of this name and its adapter did something else than the air's log says.

    What the guest ordered is held to the same as what was sent: it is what another controller would have sent.
    """
    packets = list(wire)
    ordered = [one for one in trace.ordered(packets) if one.data]
    commanded = {(one.address, one.data) for one in ordered}
    arrived = {(one.address, one.data, one.heard[name]) for one in log if name in one.heard}
    unordered = [one for one in log if one.by == name and (one.address, one.data) not in commanded]
    unsent = [one for one in trace.reported(packets) if (one.address, one.data, one.rssi) not in arrived]
    return [
        *linked(ordered),
        *(f"sent, but not ordered: {one.data.hex()}" for one in unordered),
        *(f"reported, but not on the air: {one.data.hex()}" for one in unsent),
    ]


@dataclass(frozen=True, slots=True)
class Orders:
    """The order of slices that a device sent: how many whole rounds, and how likely chance is to be as uneven.

    rounds: that the 24 orders are compared over, first ones and later ones; first: the p-value of the slices that
    blocks began with; whole: that of the orders of whole rounds.
    """

    rounds: int
    first: float
    whole: float


def orders(frames: Sequence[Shown], *, seed: int = 0) -> Orders:
    """Look at the order of slices. The same seed draws the same chance to compare with."""
    blocks = [[one.frame.index for one in block] for _, block in groupby(frames, lambda one: one.frame.key_id)]
    rounds = [
        tuple(block[start : start + SLICES]) for block in blocks for start in range(0, len(block) - SLICES + 1, SLICES)
    ]
    first = p_value([block[0] for block in blocks], SLICES, seed=seed)
    return Orders(len(rounds), first, p_value(rounds, 24, seed=seed))


def p_value(drawn: Sequence[Hashable], kinds: int, *, seed: int = 0) -> float:
    """How likely `kinds` equally likely things come out as unevenly as what was drawn, or more so.

    Pearson's χ² compared with that of seeded draws instead of its limit, which needs more draws than an epoch gives.
    """
    if not drawn:
        return 1.0
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    # With the same number of draws and kinds, χ² grows with the sum of squares and with nothing else.
    seen = _squares(drawn)
    as_uneven = sum(_squares(chance.choices(range(kinds), k=len(drawn))) >= seen for _ in range(_DRAWS))
    return (as_uneven + 1) / (_DRAWS + 1)


def _squares(drawn: Sequence[Hashable]) -> int:
    return sum(count * count for count in Counter(drawn).values())


def _fleeting(packet: trace.Sent) -> bool:
    return packet.address_type == "random" and int(packet.address[:2], 16) < _NON_RESOLVABLE
