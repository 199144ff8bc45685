"""Which day has surely come, whatever the clock says for a moment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.days import HOUR, Days
from agent.kept import State
from protocol.encounter import day_of
from tests.agent.clocks import NOON
from tests.agent.joined import met

if TYPE_CHECKING:
    from agent.store import Store

TODAY = day_of(NOON)
STEP = 2.0


def run(store: Store, named: int, seconds: float, begin: float = 0.0) -> int:
    """An agent that runs for so long while its clock names this day. The day that has surely come at its end."""
    days = Days(store)
    at, come = begin, 0
    while at <= begin + seconds:
        come = days.come(named, at)
        at += STEP
    return come


def test_a_day_has_come_once_the_clock_has_named_it_for_an_hour(store: Store) -> None:
    assert run(store, TODAY, HOUR - 2 * STEP) == 0
    assert run(store, TODAY, HOUR) == TODAY


def test_a_clock_ahead_for_a_moment_forgets_nothing(store: Store) -> None:
    store.keep_encounters([replace(met(), state=State.WAITING)])
    assert run(store, TODAY, 2 * HOUR) == TODAY
    for ahead in (30, 400, 20_000):
        store.forget_before(run(store, TODAY + ahead, HOUR / 2) - 14)
        store.forget_before(run(store, TODAY, HOUR / 4) - 14)
    assert len(store.encounters()) == 1
    assert run(store, TODAY + 1, 2 * HOUR) == TODAY + 1


def test_who_runs_an_hour_a_day_or_a_quarter_forgets_all_the_same(store: Store) -> None:
    for seconds, late in ((HOUR, 1), (HOUR / 4, 5)):
        for day in range(TODAY, TODAY + 30):
            assert run(store, day, seconds, begin=1e6 * (day % 7)) >= min(day - late, 0)
        assert TODAY + 29 - run(store, TODAY + 29, STEP) <= late


def test_a_clock_that_was_ahead_for_long_is_believed_no_more_once_it_is_right(store: Store) -> None:
    assert run(store, TODAY + 300, 2 * HOUR) == TODAY + 300
    assert run(store, TODAY, HOUR / 2) == 0, "nothing is forgotten meanwhile"
    assert run(store, TODAY, HOUR) == TODAY
    assert run(store, TODAY + 100, HOUR / 2) == TODAY, "and once it is right for an hour, a moment says nothing again"


def test_a_sleep_counts_for_a_minute_at_most(store: Store) -> None:
    days = Days(store)
    days.come(TODAY, 0.0)
    assert days.come(TODAY, 10 * HOUR) == 0
