"""Attack 18: ten thousand made-up peers in an epoch. What they take is bounded, and real peers are kept.

Nor do they hold up whose contacts are real: of an epoch so many are submitted and no more, those first who were there
longest. To be there as long as somebody real, a made-up peer takes as many frames. **Not prevented**: whoever sends
those for hundreds of peers, epoch after epoch, has real contacts wait among them; after a day of it, most are not
submitted in the three days that the server gives them.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent import keeping, proximity
from agent.account import Member
from agent.keeping import Keeper
from agent.kept import State
from agent.submitting import Submitting
from ble.assembly import Assembler
from ble.frame import SLICE_SIZE, SLICES, Block, Frame, carousel
from protocol.encounter import EpochKey
from tests.agent import joined
from tests.attacks.street import NEAR, Street, device, start_of_epoch
from tests.end_to_end.people import JumpingClock

if TYPE_CHECKING:
    from pathlib import Path

    from agent.kept import Encounter
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


# --- the network ---

LINGERING = 4000  # made-up peers of which each lasts long enough, by 27 frames a second
SLOTS = 96  # moments for submissions in a day, at the lowest pace
LONG = 20  # samples: as nobody of them has


class Heard:
    """What was heard in an epoch that is over."""

    def __init__(self, encounters: list[Encounter]) -> None:
        self.encounters = encounters

    def changed(self) -> list[Encounter]:
        return []

    def finish(self, over: object) -> list[Encounter]:
        return self.encounters


def slots_needed(folder: Path, encounters: list[Encounter], real: set[bytes]) -> int:
    """How many moments for submissions pass until everybody real was asked for."""
    store, clock, chance = joined.make_store(folder), JumpingClock(), random.Random(3)
    joined.join(store)
    limits = joined.world().parameters.limits
    keeper = Keeper(store, Heard(encounters), lambda: limits, chance, clock)  # type: ignore[arg-type]
    keeper.keep([])
    member = Member(joined.world().curve, store)
    submitting = Submitting(joined.world().curve, chance, chance, store, clock, member)  # type: ignore[arg-type]
    due = store.encounters(state=State.WAITING)
    store.close()
    for slot in range(1, 10 * SLOTS):
        chosen = submitting._choose(due)
        due[due.index(chosen)] = replace(chosen, attempts=chosen.attempts + 1)
        if sum(one.secret in real and one.attempts > 0 for one in due) == len(real):
            return slot
    return 10 * SLOTS


@pytest.mark.parametrize("bounded", [True, False])
def test_a_flood_does_not_hold_up_who_was_there_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    if not bounded:
        monkeypatch.setattr(keeping, "MOST_AT_ONCE", 10**9)
        monkeypatch.setattr(Submitting, "_choose", lambda self, due: self._chance.choice(due))
    frames = [frame for number, frame in enumerate(made_up(LINGERING)) if number % SLICES < SLICES - 1] * 2
    victim = crowd(frames, each=160, minutes=5.5)
    assert sum(one.span >= 60 for one in victim.encounters) > LINGERING * 0.9
    real = {one.secret for one in victim.encounters if len(one.samples) > LONG}
    assert len(real) == REAL
    assert (slots_needed(tmp_path, victim.encounters, real) <= SLOTS) is bounded


def test_made_up_peers_with_as_many_frames_do_hold_them_up(tmp_path: Path) -> None:
    there = [joined.met(f"real {number}", span=800.0, attenuation=50.0) for number in range(REAL)]
    as_long = [joined.met(f"made up {number}", span=800.0, attenuation=60.0) for number in range(LINGERING)]
    needed = slots_needed(tmp_path, [*there, *as_long], {one.secret for one in there})
    assert SLOTS < needed < 10 * SLOTS, "if it is less, they are not held up: tell the docs"
