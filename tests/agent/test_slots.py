"""When something goes out, and how often: whatever there is to send."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agent.slots import FURTHEST, HALF_A_DAY, KEPT, Pace, Slot, Slots, highest
from tests.agent.clocks import NOON, VirtualClock

if TYPE_CHECKING:
    from agent.store import Store

GAP = 900.0
DAY = 86400.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def slots(store: Store, clock: VirtualClock) -> Slots:
    return Slots("slot", random.Random(1), store, clock)


def test_the_first_look_draws_and_sends_nothing(slots: Slots, clock: VirtualClock) -> None:
    assert slots.next_at(GAP) == 0
    assert not slots.take(GAP)
    assert slots.next_at(GAP) > clock.now()
    assert not slots.take(GAP), "its moment has not come"
    clock.set(slots.next_at(GAP))
    assert slots.take(GAP)
    assert slots.next_at(GAP) > clock.now()


def test_each_stretch_has_one_moment_anywhere_in_it(slots: Slots, clock: VirtualClock) -> None:
    places = []
    slots.take(GAP)
    for number in range(1000):
        place = (slots.next_at(GAP) - NOON) / GAP - number
        assert 0 <= place <= 1
        places.append(place)
        clock.set(slots.next_at(GAP))
        assert slots.take(GAP)
    assert all(80 < sum(tenth <= 10 * place < tenth + 1 for place in places) < 120 for tenth in range(10))
    together = sum((one - 0.5) * (other - 0.5) for one, other in pairwise(places)) / len(places)
    assert abs(together) * 12 < 0.1, "where one is tells nothing of the next"


def test_no_burst_after_a_sleep_and_none_twice(slots: Slots, store: Store, clock: VirtualClock) -> None:
    slots.take(GAP)
    other = Slots("slot", random.Random(2), store, clock)
    assert other.next_at(GAP) == slots.next_at(GAP), "a restart goes on with the same moment"
    clock.set(slots.next_at(GAP))
    assert other.take(GAP)
    assert not slots.take(GAP), "another process had it"
    clock.set(slots.next_at(GAP) + GAP + 1)
    assert not slots.take(GAP), "slept too long: drawn anew"
    assert slots.next_at(GAP) > clock.now()


def test_another_gap_or_a_clock_set_back_has_the_next_one_drawn_anew(
    slots: Slots, store: Store, clock: VirtualClock
) -> None:
    slots.take(GAP)
    assert slots.next_at(GAP / 2) == 0
    assert not slots.take(GAP / 2)
    assert slots.next_at(GAP / 2) > 0
    store.put("slot", Slot(at=clock.now() + (FURTHEST + 1) * GAP, until=NOON, gap=GAP))
    assert slots.next_at(GAP) == 0


# --- how often ---


def test_the_pace_rises_at_once_and_falls_after_a_fortnight_without_need() -> None:
    capacity = HALF_A_DAY / GAP
    pace = Pace().after(int(capacity), GAP, 2000, NOON)
    assert pace.level == 0
    pace = pace.after(int(capacity) + 1, GAP, 2000, NOON)
    assert (pace.level, pace.gap(GAP)) == (1, GAP / 2)
    for days in range(1, 15):
        pace = pace.after(0, GAP, 2000, NOON + days * DAY)
        assert pace.level == 1
    assert pace.after(0, GAP, 2000, NOON + KEPT + DAY).level == 0


def test_a_pace_that_is_needed_day_by_day_stays() -> None:
    """The queue is short at the higher level; what it would be at the lower one counts."""
    pace = Pace(level=1, needed=NOON, at=NOON)
    now = NOON
    for _ in range(40):  # days, each with 120 contacts in its first 16 hours: the lower level has 96 a day
        for number in range(120):
            pace = pace.after(1, GAP, 2000, now + number * DAY * 2 / 3 / 120)
        now += DAY
        assert pace.level == 1


def test_a_day_never_has_more_than_the_server_takes() -> None:
    assert highest(GAP, 2000) == 3
    assert highest(GAP, 300) == 1
    assert highest(GAP, 100) == 0
    assert highest(60, 2000) == 0
    assert Pace().after(10**6, GAP, 100, NOON).level == 0
