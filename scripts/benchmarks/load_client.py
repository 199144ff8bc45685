"""The users' side of scripts/bench load, in a process of its own: what it costs is not the backend's."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import transport
from scripts.benchmarks.asking import Proxy
from scripts.benchmarks.crowd import Maker, make

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from multiprocessing.connection import Connection

    from scripts.benchmarks.crowd import Crowd, Side

TICKETS = 1 << 16  # of each user's quota for each of these processes
PAUSE = 1.0  # seconds before a submission is tried again that was turned away without a word about when


@dataclass(frozen=True)
class Phase:
    """What to do. lanes: contacts under way at once, each begun when another is over; else rate: begun a second.

    patient: whether what is turned away is tried again.
    """

    seconds: float
    lanes: int = 0
    rate: float = 0.0
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """One submission that was answered, or not. at: when, on the monotonic clock; seconds: how long it took."""

    at: float
    seconds: float
    status: int
    retry_after: float
    completed: bool


@dataclass(slots=True)
class Progress:
    """A contact under way: which of its sides are accepted (pending or signed), and which have their record."""

    sides: tuple[Side, ...]
    accepted: set[int] = field(default_factory=set)
    signed: set[int] = field(default_factory=set)


class Client:
    """Takes contacts from submission to records."""

    def __init__(self, crowd: Crowd, number: int, day: int, count: int, pipe: Connection) -> None:
        maker = Maker(crowd, str(number), number * TICKETS)
        contacts = make(maker, day, count, lambda made: pipe.send(("made", made)))
        # Where more are needed than were made ahead, it is the clients that become slower.
        self._fresh = itertools.chain(contacts, (maker.sides(day, day) for _ in itertools.count()))
        self._proxies = [Proxy(url, transport.tls(crowd.roots)) for url in crowd.proxies]
        self._begun: list[Progress] = []
        self._events: list[Event] = []

    async def play(self, phase: Phase) -> list[Event]:
        """Do this, and say what happened."""
        self._events = []
        until = time.monotonic() + phase.seconds
        async with asyncio.TaskGroup() as group:
            if phase.lanes:
                for _ in range(phase.lanes):
                    group.create_task(self._lane(phase, until))
            else:
                await self._arrivals(phase, until, group)
        return self._events

    async def _lane(self, phase: Phase, until: float) -> None:
        while time.monotonic() < until:
            await self._complete(self._next(), patient=phase.patient)

    async def _arrivals(self, phase: Phase, until: float, group: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        while (due := due + random.expovariate(phase.rate)) < until:
            await asyncio.sleep(due - time.monotonic())
            group.create_task(self._complete(self._next(), patient=phase.patient))

    def _next(self) -> Progress:
        self._begun.append(Progress(next(self._fresh)))
        return self._begun[-1]

    async def finish(self, lanes: int) -> dict[str, int]:
        """Complete all of which anything was accepted; says how many contacts that are, and how many are complete."""
        taken = [one for one in self._begun if one.accepted]
        left = iter([one for one in taken if len(one.signed) < len(one.sides)])

        async def lane() -> None:
            for one in left:
                await self._complete(one, patient=True)

        accepted = sum(len(one.accepted) for one in taken)
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(lane())
        complete = sum(len(one.signed) == len(one.sides) for one in taken)
        return {"contacts": len(taken), "accepted": accepted, "complete": complete}

    def accepted(self) -> list[tuple[bytes, bytes, bool]]:
        """(CCM, nullifier, whether it is signed) of every side that the backend accepted."""
        return [
            (one.sides[index].ccm, one.sides[index].nullifier, index in one.signed)
            for one in self._begun
            for index in one.accepted
        ]

    async def _complete(self, one: Progress, *, patient: bool) -> None:
        """One side, the other, and the first again until both have their record; a proxy is drawn for each request."""
        for index in itertools.cycle(range(len(one.sides))):
            if index in one.signed:
                if len(one.signed) == len(one.sides):
                    return
                continue
            while (wait := await self._submit(one, index)) is not None:
                if not patient:
                    return
                await asyncio.sleep(wait)

    async def _submit(self, one: Progress, index: int) -> float | None:
        """One request; seconds to wait where it has to be sent again."""
        began = time.monotonic()
        answer = await random.choice(self._proxies).submit(one.sides[index].body)  # noqa: S311 (no secret)
        over = time.monotonic()
        if answer.status == 200:
            one.accepted.add(index)
            record = answer.record
            if record is not None and (record.ccm, record.nullifier) == (
                one.sides[index].ccm,
                one.sides[index].nullifier,
            ):
                one.signed.add(index)
        completed = answer.status == 200 and len(one.signed) == len(one.sides)
        self._events.append(Event(over, over - began, answer.status, answer.retry_after, completed))
        if answer.status == 200:
            return None
        return answer.retry_after or PAUSE


def main(pipe: Connection, crowd: Crowd, number: int, day: int, count: int) -> None:
    """Do what comes through the pipe, until it says None."""
    client = Client(crowd, number, day, count, pipe)
    pipe.send(("ready", time.process_time()))
    while (asked := pipe.recv()) is not None:
        work: Coroutine[Any, Any, Any] = client.play(asked) if isinstance(asked, Phase) else client.finish(asked)
        pipe.send(("done", (asyncio.run(work), time.process_time())))
    pipe.send(("accepted", client.accepted()))
