"""What really happened, and what the agents made of it: who was near whom, who is to be warned."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.exposure import near_seconds
from agent.kept import Encounter, State
from agent.samples import SAMPLE_SECONDS, Sample
from backend_stub.operations.policy import LIMITS, ONSET, RISK
from protocol import messages
from protocol.encounter import SECONDS_A_DAY, day_of, epoch_of
from scripts.benchmarks.replay.contacts import SLOT, START_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scripts.benchmarks.replay.contacts import Contacts, Pair

LONG = 900  # seconds: a pair's contact on one day that must not be missed
ATTENUATION = 40.2  # dB at 1 m
SLACK = 2.0  # seconds by which a sighting may lie outside of a slot


class Entry(messages.Message, frozen=True, kw_only=True):
    """What an agent has of an encounter; times in seconds since 1970."""

    first: float
    last: float
    day: int
    state: str
    declared: bool
    exposed: bool


Ledger = dict[str, dict[str, Entry]]
"""Person → CCM → what this person's agent has of the encounter."""


class Declared(messages.Message, frozen=True, kw_only=True):
    """Somebody's declaration. at: seconds since 1970; onset: day; contacts: accepted; problem: why none were."""

    person: str
    at: float
    onset: int
    contacts: int
    problem: str = ""


@dataclass(frozen=True)
class Perfect:
    """The encounters that agents would have whom nothing escapes, by pair."""

    by_pair: dict[Pair, list[Encounter]]

    @staticmethod
    def of(contacts: Contacts) -> Perfect:
        """A sample every few seconds of each slot, cut by epochs; those longer than the authority asks for.

        In three slots, which are 60 s, first and last sighting are never 60 s apart.
        """
        slots: dict[tuple[Pair, int], list[int]] = defaultdict(list)
        for day in contacts.days.values():
            for at, pairs in day.items():
                for pair in pairs:
                    slots[pair, epoch_of(at, LIMITS.epoch)].append(at)
        found: dict[Pair, list[Encounter]] = defaultdict(list)
        for (pair, _), begins in sorted(slots.items()):
            first, last = float(begins[0]), float(begins[-1] + SLOT)
            if last - first > LIMITS.minimum:
                found[pair].append(Encounter(b"", 0, day_of(first), first, last, tuple(_samples(begins))))
        return Perfect(dict(found))


def _samples(begins: Sequence[int]) -> Iterator[Sample]:
    for begin in begins:
        for step in range(int(SLOT / SAMPLE_SECONDS)):
            yield Sample(begin + step * SAMPLE_SECONDS, ATTENUATION)


@dataclass
class Signed:
    """How much of what should be signed is signed by both. long: pair-days; epochs: pairs' epochs."""

    long: int = 0
    long_signed: int = 0
    epochs: int = 0
    epochs_signed: int = 0
    missing: list[str] = field(default_factory=list)


def signed(contacts: Contacts, perfect: Perfect, ledger: Ledger) -> Signed:
    """Of pair-days with enough contact: those with a contact record on both sides; likewise of pairs' epochs."""
    found = Signed()
    both = _signed_by_both(ledger)
    for (day, pair), seconds in sorted(contacts.seconds().items()):
        if seconds >= LONG:
            found.long += 1
            if any(day_of(first) == START_DAY + day for first in both.get(pair, ())):
                found.long_signed += 1
            else:
                found.missing.append(f"{pair[0]} and {pair[1]}, day {day + 1}: {seconds / 60:.1f} min")
    for pair, encounters in perfect.by_pair.items():
        for one in encounters:
            found.epochs += 1
            epoch = epoch_of(one.first, LIMITS.epoch)
            found.epochs_signed += any(epoch_of(first, LIMITS.epoch) == epoch for first in both.get(pair, ()))
    return found


def _signed_by_both(ledger: Ledger) -> dict[Pair, list[float]]:
    """When the encounters began that two people have records of, by pair."""
    found: dict[Pair, list[float]] = defaultdict(list)
    for ccm, holders in _holders(ledger).items():
        states = {ledger[name][ccm].state for name in holders}
        if len(holders) == 2 and states == {State.SIGNED.value}:
            found[holders[0], holders[1]].append(ledger[holders[0]][ccm].first)
    return found


def _holders(ledger: Ledger) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(ledger):
        for ccm in ledger[name]:
            holders[ccm].append(name)
    return holders


def fabricated(contacts: Contacts, ledger: Ledger, declared: Sequence[Declared]) -> list[str]:
    """Records of people who were not near each other then, and matches with somebody who did not declare."""
    near: dict[Pair, list[int]] = defaultdict(list)
    for day in contacts.days.values():
        for at, pairs in day.items():
            for pair in pairs:
                near[pair].append(at)
    ill = {one.person for one in declared if one.contacts}
    found = []
    for ccm, holders in _holders(ledger).items():
        for name in holders:
            entry = ledger[name][ccm]
            others = [other for other in holders if other != name]
            if entry.state == State.SIGNED.value and not _were_near(near, name, others, entry):
                found.append(f"{name} has a record with {others or 'nobody'}")
            if entry.exposed and not ill.intersection(others):
                found.append(f"{name} has a match with {others or 'nobody'}")
    return found


def _were_near(near: Mapping[Pair, Sequence[int]], name: str, others: Sequence[str], entry: Entry) -> bool:
    if len(others) != 1:
        return False
    slots = near.get((min(name, others[0]), max(name, others[0])), ())
    return any(at - SLACK <= entry.first <= at + SLOT + SLACK for at in slots) and any(
        at - SLACK <= entry.last <= at + SLOT + SLACK for at in slots
    )


@dataclass
class Warnings:
    """Who should be warned and who is. scores: of those who should or are, weighted minutes of the worst day."""

    both: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    neither: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)


def warnings(
    contacts: Contacts, perfect: Perfect, declared: Sequence[Declared], warned: Mapping[str, float]
) -> Warnings:
    """Everybody, by whether the parameters say that they are to be warned, and whether they were."""
    due, scores = _due(perfect, declared)
    found = Warnings()
    for name in contacts.people:
        if name in due and name in warned:
            found.both.append(name)
            found.delays.append(warned[name] - due[name])
        elif name in due:
            found.missed.append(name)
        elif name in warned:
            found.false.append(name)
        else:
            found.neither += 1
    found.scores = {name: scores.get(name, 0.0) for name in (*found.both, *found.missed, *found.false)}
    return found


def _due(perfect: Perfect, declared: Sequence[Declared]) -> tuple[dict[str, float], dict[str, float]]:
    """From when on each is to be warned (seconds since 1970), and the score of everybody's worst day."""
    due: dict[str, float] = {}
    days: dict[tuple[str, int], float] = defaultdict(float)
    silent: dict[str, float] = {}  # who has declared is not warned of what was declared
    for one in sorted(declared, key=lambda each: each.at):
        if not one.contacts:
            continue
        for pair, encounters in perfect.by_pair.items():
            if one.person not in pair:
                continue
            other = pair[1] if pair[0] == one.person else pair[0]
            for met in encounters:
                weight = _weight(met.day - one.onset)
                if weight and met.last <= one.at and met.first > silent.get(other, 0.0):
                    days[other, met.day] += near_seconds(met, RISK) / 60 * weight
                    if days[other, met.day] >= RISK.warn_at:
                        due.setdefault(other, one.at)
        silent[one.person] = one.at
    scores: dict[str, float] = defaultdict(float)
    for (name, _), score in days.items():
        scores[name] = max(scores[name], score)
    return due, scores


def _weight(days_since_onset: int) -> float:
    for span in ONSET:
        if span.first <= days_since_onset <= span.last:
            return RISK.infectiousness[span.level - 1]
    return 0.0


def begin_of(day: int) -> float:
    """When this day of the data begins, seconds since 1970."""
    return float((START_DAY + day) * SECONDS_A_DAY)
