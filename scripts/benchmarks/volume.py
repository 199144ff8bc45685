"""Light clients of scripts/bench faults, in a process of their own: many contacts, each until both sides have a record.

They do what an agent does about a submission: a proxy drawn for each request, a pause before it is sent again, three
refusals and it is given up. Their pauses are shorter than an agent's. What came of each is written down in memory.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from backend_stub.clock import ScaledClock, today
from protocol import messages
from protocol.timescale import read_timescale
from scripts.benchmarks.asking import Proxy
from scripts.benchmarks.crowd import Maker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from backend_stub.clock import Clock
    from scripts.benchmarks.crowd import Crowd, Side

REFUSALS = 3
PAUSE_FIRST, PAUSE_LAST = 0.25, 4.0  # seconds
TIMEOUT = 15.0  # seconds for an exchange
LONELY = 0.03  # of all contacts are submitted by one side only
NOTICE = 0.5  # seconds between two notices of progress


@dataclass(slots=True)
class Line:
    """What one side has of a contact. accepted: how often it was taken; refusals: answers that it is wrong."""

    ccm: bytes
    nullifier: bytes
    day: int
    accepted: int = 0
    refusals: int = 0
    record: bytes | None = None


@dataclass(slots=True)
class Ledger:
    """What the light clients have. pairs: contacts with two sides; lonely: with one, that must never be signed."""

    pairs: list[tuple[Line, ...]] = field(default_factory=list)
    lonely: list[tuple[Line, ...]] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    away: int = 0


class Volume:
    """Lanes, each with one contact under way."""

    def __init__(self, crowd: Crowd, seed: str, clock: Clock) -> None:
        self._maker = Maker(crowd, seed)
        self._drawn = random.Random(seed)  # noqa: S311 (no secret)
        self._proxies = [Proxy(url) for url in crowd.proxies]
        self._clock = clock
        self._day = today(clock)
        self.ledger = Ledger()
        self.draining = False

    async def run(self, lanes: int) -> None:
        """Begin contacts until `draining`; then complete those under way."""
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._lane())

    async def _lane(self) -> None:
        while not self.draining:
            lonely = self._drawn.random() < LONELY
            sides = self._maker.sides(self._day, today(self._clock), 1 if lonely else 2)
            lines = tuple(Line(side.ccm, side.nullifier, side.day) for side in sides)
            (self.ledger.lonely if lonely else self.ledger.pairs).append(lines)
            await (self._wait_in_vain(sides[0], lines[0]) if lonely else self._complete(sides, lines))

    async def _wait_in_vain(self, side: Side, line: Line) -> None:
        await self._accepted(side, line)
        await asyncio.sleep(PAUSE_LAST)
        await self._accepted(side, line)

    async def _complete(self, sides: Sequence[Side], lines: Sequence[Line]) -> None:
        while any(line.record is None and line.refusals < REFUSALS for line in lines):
            for side, line in zip(sides, lines, strict=True):
                if line.record is None:
                    await self._accepted(side, line)

    async def _accepted(self, side: Side, line: Line) -> None:
        """Send it until it is taken or refused for good."""
        pause = PAUSE_FIRST
        while line.refusals < REFUSALS and not await self._send(side, line):
            await asyncio.sleep(self._drawn.uniform(pause / 2, pause))
            pause = min(2 * pause, PAUSE_LAST)

    async def _send(self, side: Side, line: Line) -> bool:
        self.ledger.sent += 1
        answer = await self._drawn.choice(self._proxies).submit(side.body, TIMEOUT)
        if answer.status == HTTPStatus.OK:
            self.ledger.answered += 1
            line.accepted += 1
            if answer.record is not None:
                line.record = messages.encode(answer.record)
            return True
        self.ledger.away += 1
        if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            line.refusals += answer.status != HTTPStatus.TOO_MANY_REQUESTS
        return False


def main(pipe: Connection, crowd: Crowd, seed: str, timescale: str, lanes: int) -> None:
    """Work until the pipe says so; then give the ledger."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_main(pipe, Volume(crowd, seed, ScaledClock(read_timescale(timescale))), lanes))


async def _main(pipe: Connection, volume: Volume, lanes: int) -> None:
    work = asyncio.create_task(volume.run(lanes))
    patience = float("inf")
    while not work.done() and time.monotonic() < patience:
        await asyncio.wait([work], timeout=NOTICE)
        pipe.send(volume.ledger.answered)
        if pipe.poll():
            volume.draining, patience = True, time.monotonic() + pipe.recv()
    work.cancel()
    pipe.send(volume.ledger)
