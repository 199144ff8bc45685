"""Attack 4: the TX power in a frame is changed, so that a far device looks near (cwa-documentation#322).

The attacker sits between two devices that are too far to count, lets neither hear the other but through it, and claims
another TX power in both directions. The key id commits to the whole block, so a changed slice alone fits no block; a
whole block made anew is another block, and both sides derive from what they broadcast and heard: they come to different
E, and share no contact.

Where the two do hear each other, a passer-by needs no place between them: it broadcasts somebody's EBID in a block of
its own with another power, beside the true one or before it is complete. That block is another peer: it adds nothing to
the encounter of the true one, and does not take its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ble.assembly import Assembler
from ble.frame import SLICE_SIZE, Block, Frame, carousel
from protocol import encounter
from tests.attacks.street import FAR_AWAY, NEAR, STEP, Street, device, loss_at, shared, start_of_epoch

if TYPE_CHECKING:
    from tests.attacks.street import Antenna, Caught, Device

CLAIM = -50  # dBm: sent so quietly that whatever is heard must be near
METADATA = slice(32, 36)


@dataclass
class Forger:
    """Collects the other side's block, and broadcasts it under another TX power."""

    source: Antenna
    assembler: Assembler = field(default_factory=Assembler)
    made: tuple[Frame, ...] = ()
    turn: int = 0
    read: int = 0

    def act(self, antenna: Antenna, at: float) -> None:
        for one in self.source.caught[self.read :]:
            block = self.assembler.add(one.frame, at)
            if block is not None:
                self.made = carousel(Block(block.ebid, CLAIM).encode())
        self.read = len(self.source.caught)
        if self.made:
            self.turn += 1
            antenna.send(self.made[self.turn % len(self.made)])


def between() -> tuple[Device, Device]:
    """Forge both ways for ten minutes."""
    street = Street()
    start_of_epoch(street.clock)
    left, right = device(street.clock, 1), device(street.clock, 2)
    street.put(left, NEAR)
    street.put(right, FAR_AWAY)
    at_left, at_right = street.attack(NEAR), street.attack(FAR_AWAY)
    at_left.act, at_right.act = Forger(at_right).act, Forger(at_left).act
    street.walk(10)
    street.leave()
    return left, right


def _as_near_as_can_be(one: Device) -> bool:
    return all(sample.attenuation < 30 for met in one.encounters for sample in met.samples)


def test_a_block_with_another_power_is_no_contact() -> None:
    left, right = between()
    assert left.secrets, "the forged block was heard"
    assert right.secrets
    assert _as_near_as_can_be(left)
    assert not shared(left, right)


def test_if_the_metadata_did_not_enter_e_it_would_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = encounter.EpochKey.meet

    def careless(self: encounter.EpochKey, own_block: bytes, peer_block: bytes) -> bytes:
        plain = bytes(METADATA.stop - METADATA.start)
        return honest(self, own_block[: METADATA.start] + plain, peer_block[: METADATA.start] + plain)

    monkeypatch.setattr(encounter.EpochKey, "meet", careless)
    left, right = between()
    assert shared(left, right)
    assert _as_near_as_can_be(left)


def flip(frames: list[Caught]) -> list[Block]:
    """Change the TX power in one slice of what was caught; which blocks a receiver makes of it."""
    receiver = Assembler()
    found = []
    for caught in frames:
        one = caught.frame
        if one.index == 2:  # bytes 24 to 35 of the block: TX power is its byte 33
            slice_ = bytearray(one.slice)
            slice_[33 - 2 * SLICE_SIZE] = CLAIM & 0xFF
            one = Frame(one.index, one.key_id, bytes(slice_))
        elif one.index == 3:
            continue  # the parity would rebuild the true slice
        found.append(receiver.add(one, caught.at))
    return [block for block in found if block is not None]


def test_a_changed_slice_fits_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Street()
    street.put(device(street.clock, 1), NEAR)
    antenna = street.attack(NEAR)
    street.walk(1)
    assert flip(antenna.caught) == []

    monkeypatch.setattr("ble.assembly.key_id", lambda data: antenna.caught[0].frame.key_id)
    assert flip(antenna.caught)[0].tx_power == CLAIM, "without the commitment in the key id it would"


# --- beside a block that is heard as well ---

QUIETLY = -60.0  # dBm: only who stands beside the attacker hears it
HALL = 60.0  # metres: too far to count, and heard


def passed_by(metres: float, claim: int, minutes: float, each: int = 1) -> tuple[Device, Device]:
    """14 minutes of two people so far apart. Beside the first, the second's EBID is broadcast with that claim.

    minutes: from when on; each: such frames in every step, for all of the epoch or, at its begin, one step only
    """
    street = Street()
    start_of_epoch(street.clock)
    left, right = device(street.clock, 1), device(street.clock, 2)
    street.put(left, NEAR)
    street.put(right, (metres, 0.0))
    begin = street.clock.now()

    def send(antenna: Antenna, at: float) -> None:
        # What is on air is heard by everybody: an antenna with some gain has the true block within two seconds.
        forged = carousel(Block(street.on_air(right).key.ebid, claim).encode())
        if at >= begin + minutes * 60 and (minutes or at < begin + STEP):
            for turn in range(each):
                antenna.send(forged[(int(at / STEP) + turn) % 4], QUIETLY)

    street.attack(NEAR, send)
    street.walk(14)
    street.leave()
    return left, right


def by_ebid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every block of one EBID for the same peer, as this agent once did."""
    monkeypatch.setattr(Block, "__eq__", lambda one, other: one.ebid == other.ebid)
    monkeypatch.setattr(Block, "__hash__", lambda one: hash(one.ebid))


@pytest.mark.parametrize("careless", [False, True])
def test_a_forged_block_beside_the_true_one_changes_no_attenuation(
    monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    if careless:
        by_ebid(monkeypatch)
    left, right = passed_by(HALL, CLAIM, minutes=0.5)
    (secret,) = shared(left, right)
    (met,) = (one for one in left.encounters if one.secret == secret)
    far = {sample.attenuation for sample in met.samples} == {round(loss_at(HALL))}
    assert far is not careless


@pytest.mark.parametrize("careless", [False, True])
def test_a_forged_block_heard_first_does_not_take_the_true_ones_place(
    monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    if careless:
        by_ebid(monkeypatch)
    left, right = passed_by(1.0, claim=-1, minutes=0, each=4)
    assert bool(shared(left, right)) is not careless
