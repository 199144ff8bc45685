"""Attack 4: the TX power in a frame is changed, so that a far device looks near (cwa-documentation#322).

The attacker sits between two devices that are too far to count, lets neither hear the other but through it, and claims
another TX power in both directions. The key id commits to the whole block, so a changed slice alone fits no block; a
whole block made anew is another block, and both sides derive from what they broadcast and heard: they come to different
E, and share no contact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ble.assembly import Assembler
from ble.frame import SLICE_SIZE, Block, Frame, carousel
from protocol import encounter
from tests.attacks.street import FAR_AWAY, NEAR, Street, device, shared, start_of_epoch

if TYPE_CHECKING:
    import pytest

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
