"""What is kept in memory while the disk takes nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from agent import account, keeping
from agent.commands import views
from agent.keeping import Keeper
from agent.service import ServiceStatus
from agent.store import State, Store
from protocol.errors import StorageError
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met

if TYPE_CHECKING:
    import pytest

    from agent.store import Encounter

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


def test_a_full_disk_takes_bounded_memory_and_the_longest_encounters_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_UNKEPT", MOST)
    ears = Ears()
    over: list[Any] = []
    limits = account.read_trusted(store).parameters.limits
    keeper = Keeper(store, ears, lambda: limits, random.Random(0), VirtualClock())  # type: ignore[arg-type]

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
