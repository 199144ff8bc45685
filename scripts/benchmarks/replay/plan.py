"""What is to happen on the days of a replay: when people are awake, and who is to declare."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from protocol.encounter import day_of
from scripts.benchmarks.replay.truth import begin_of

if TYPE_CHECKING:
    from scripts.benchmarks.replay.contacts import Contacts, Pair

AWAKE = (8.0, 20.0)  # hours in which agents look at the backend; longer where contacts begin before or go on after
EARLY, LATE = 0.5, 1.5  # hours before the first contact and after the last


class Illness(msgspec.Struct, frozen=True):
    """Somebody who is to declare. at: seconds since 1970; onset: day."""

    person: str
    at: float
    onset: int


def hours(day: int, slots: dict[int, frozenset[Pair]]) -> tuple[float, float]:
    """From when to when people are awake on this day, seconds since 1970, by whole minutes."""
    begin = begin_of(day)
    first, last = AWAKE
    if slots:
        first = min(first, (min(slots) - begin) / 3600 - EARLY)
        last = max(last, (max(slots) - begin) / 3600 + LATE)
    minutes = [int(max(0.0, min(24.0, hour)) * 60) for hour in (first, last)]
    return begin + minutes[0] * 60, begin + minutes[1] * 60


def draw_ill(contacts: Contacts, seed: int, count: int) -> list[Illness]:
    """Who declares when: at working hours of days after the first, likelier who met many in the three days before."""
    chance = random.Random(f"{seed} ill")  # noqa: S311 (to be repeatable)
    met = contacts.seconds()
    days = [day for day in contacts.days if day] or list(contacts.days)
    ill: dict[str, Illness] = {}
    for _ in range(count):
        day = chance.choice(days)
        weights: Counter[str] = Counter()
        for (on, pair), seconds in met.items():
            if day - 3 <= on <= day:
                for name in set(pair).difference(ill):
                    weights[name] += seconds
        if weights:
            names = sorted(weights)
            (person,) = chance.choices(names, [weights[name] for name in names])
            at = begin_of(day) + int(chance.uniform(9, 17) * 60) * 60
            ill[person] = Illness(person, at, day_of(at) - chance.randrange(3))
    return sorted(ill.values(), key=lambda one: one.at)
