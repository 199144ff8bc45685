"""What is handed on of a crowd, and what is kept in memory while the disk takes nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent import account, keeping
from agent.commands import views
from agent.keeping import MOST_AT_ONCE, Keeper
from agent.kept import State
from agent.service import ServiceStatus
from agent.store import Store
from protocol.errors import StorageError
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met

if TYPE_CHECKING:
    from agent.kept import Encounter

MOST = 10


class Ears:
    """Encounters as proximity hands them over."""

    def __init__(self) -> None:
        self.found: list[Encounter] = []

    def changed(self) -> list[Encounter]:
        return []

    def finish(self, over: object) -> list[Encounter]:
        found, self.found = self.found, []
        return found


def make_keeper(store: Store, ears: Ears, clock: VirtualClock | None = None) -> Keeper:
    limits = account.read_trusted(store).parameters.limits
    return Keeper(store, ears, lambda: limits, random.Random(0), clock or VirtualClock())  # type: ignore[arg-type]


# --- what is handed on ---


def test_what_a_crash_left_open_is_taken_up(store: Store) -> None:
    done = replace(met("done"), state=State.WAITING, due=NOON)
    store.keep_encounters([met("long", span=60), met("short", span=59), done])
    make_keeper(store, Ears()).recover()
    found = {one.secret: one for one in store.encounters()}
    assert found.keys() == {met("long").secret, done.secret}
    assert found[met("long").secret].state is State.WAITING
    assert found[met("long").secret].due > NOON
    assert found[done.secret].due == NOON


@pytest.mark.parametrize("crashed", [False, True])
def test_of_a_crowd_those_heard_most_are_handed_on(store: Store, crashed: bool) -> None:
    crowd = [met(f"passing {number}", span=60.0 + number % 30) for number in range(MOST_AT_ONCE)]
    there = [met(f"there {number}", span=800.0) for number in range(10)]
    ears = Ears()
    keeper = make_keeper(store, ears)
    store.keep_encounters(crowd + there)
    if crashed:
        keeper.recover()
    else:
        ears.found = [met("too short", span=30.0), *crowd, *there]
        keeper.keep([])
    waiting = {one.secret: one for one in store.encounters(state=State.WAITING)}
    assert len(waiting) == MOST_AT_ONCE
    assert waiting.keys() >= {one.secret for one in there}
    assert len({one.due for one in waiting.values()}) > MOST_AT_ONCE / 2, "each at a time of its own"
    assert store.encounters(state=State.OPEN) == []
    assert keeper.crowded == 10
    assert "10 of a crowd" in views.crowd_texts(ServiceStatus(pid=1, started=NOON, beat=NOON, crowded=10))[0]
    assert views.crowd_texts(ServiceStatus(pid=1, started=NOON, beat=NOON)) == []


# --- a full disk ---


def test_a_full_disk_takes_bounded_memory_and_the_longest_encounters_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_UNKEPT", MOST)
    ears = Ears()
    over: list[Any] = []
    keeper = make_keeper(store, ears)

    def full(self: Store, encounters: object) -> None:
        raise StorageError("the disk is full: free some space")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "keep_encounters", full)
        for epoch in range(5):
            ears.found = [met(f"{epoch} {number}", span=60.0 + 10 * number + epoch) for number in range(5)]
            ears.found.append(met(f"short {epoch}", span=5.0))
            keeper.keep(over)
            assert keeper.unkept <= MOST
        assert keeper.unkept == MOST
        assert keeper.lost == 15, "those too short to matter are not counted"
        assert "full" in keeper.disk_problem
        said = views.disk_texts(
            ServiceStatus(
                pid=1, started=NOON, beat=NOON, unkept=MOST, lost=keeper.lost, disk_problem=keeper.disk_problem
            )
        )
        assert len(said) == 2
        assert "10 encounters wait in memory" in said[0]
        assert "15 short encounters are lost" in said[1]
    keeper.keep(over)
    assert (keeper.unkept, keeper.disk_problem, keeper.lost) == (0, "", 15)
    kept = store.encounters()
    assert sorted(one.span for one in kept) == sorted(
        60.0 + 10 * number + epoch for number in (3, 4) for epoch in range(5)
    )
    assert {one.state for one in kept} == {State.WAITING}


def test_nothing_is_said_of_a_disk_that_works() -> None:
    status = ServiceStatus(pid=1, started=NOON, beat=NOON)
    assert views.disk_texts(status) == views.disk_texts(None) == []
