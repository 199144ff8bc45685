"""Attack 18: ten thousand made-up peers in an epoch. What they take is bounded, and real peers are kept."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent import proximity
from ble.assembly import Assembler
from ble.frame import SLICE_SIZE, SLICES, Block, Frame, carousel
from protocol.encounter import EpochKey
from tests.attacks.street import NEAR, Street, device, start_of_epoch

if TYPE_CHECKING:
    from tests.attacks.street import Antenna, Device

REAL = 10
MADE_UP = 10_000
TABLE = 256  # key ids that the smaller table holds
QUIETLY = -60.0  # dBm: the victim hears it, who is a metre away does not
BURST = 300  # forged key ids a step: more than that table holds


def crowd(flood: list[Frame], each: int, minutes: float) -> Device:
    """Half a minute among real peers, then a flood of so many frames a step beside them. Who was flooded."""
    street = Street()
    start_of_epoch(street.clock)
    victim = device(street.clock, 0)
    street.put(victim, NEAR)
    for number in range(REAL):
        street.put(device(street.clock, number + 1), (1.0, number / 10))
    street.walk(0.5)

    def send(antenna: Antenna, _at: float) -> None:
        for frame in flood[:each]:
            antenna.send(frame, QUIETLY)
        del flood[:each]

    street.attack(NEAR, send)
    street.walk(minutes)
    street.leave()
    return victim


def made_up(count: int) -> list[Frame]:
    """Whole carousels of real keys, of which each is a peer."""
    chance = random.Random(1)
    blocks = [Block(EpochKey(chance.randbytes(32)).ebid, 0).encode() for _ in range(count)]
    return [frame for block in blocks for frame in carousel(block)]


def forged(count: int) -> list[Frame]:
    """Frames with a key id each and nothing behind it."""
    chance = random.Random(2)
    return [Frame(chance.randrange(SLICES), chance.getrandbits(30), chance.randbytes(SLICE_SIZE)) for _ in range(count)]


@pytest.mark.parametrize("bounded", [True, False])
def test_ten_thousand_made_up_peers_take_no_more_room_than_there_is(
    monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    most = 0
    honest = proximity.Proximity.hear

    def watch(self: proximity.Proximity, sighting: object) -> None:
        nonlocal most
        honest(self, sighting)  # type: ignore[arg-type]
        most = max(most, len(self))

    monkeypatch.setattr(proximity.Proximity, "hear", watch)
    if not bounded:
        monkeypatch.setattr(proximity, "PEERS", 10**9)
    victim = crowd(made_up(MADE_UP), each=400, minutes=5)
    assert len(victim.secrets) == REAL, "those who are really there, and nobody else for a minute"
    assert (most <= 4096 + 1) is bounded


@pytest.mark.parametrize("kept", [True, False])
def test_what_keeps_the_real_ones_is_the_half_for_regulars(monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    monkeypatch.setattr(proximity, "Assembler", lambda **told: Assembler(capacity=TABLE, **told))
    if not kept:
        monkeypatch.setattr(Assembler, "_promote", lambda self, name, entry: None)
    victim = crowd(forged(BURST * 150), each=BURST, minutes=5)
    assert len(victim.secrets) == (REAL if kept else 0)
