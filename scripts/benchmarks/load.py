"""scripts/bench load: what a backend of processes takes, what it costs, and what it does when it is too much."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from backend_stub.clock import ScaledClock, today
from backend_stub.operations.founding import Plan
from backend_stub.operations.policy import Policy, changed
from protocol.errors import SpotError
from protocol.timescale import Timescale
from scripts.benchmarks import load_client, submission_floor
from scripts.benchmarks.bed import DATABASES, opened
from scripts.benchmarks.crowd import gather
from scripts.benchmarks.load_client import Phase
from scripts.benchmarks.load_outcome import OVERLOAD, SUBMISSIONS, Measured, Outcome, tell
from scripts.benchmarks.parts import processor_seconds
from scripts.benchmarks.tables import machine, notes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from scripts.benchmarks.bed import Bed
    from scripts.benchmarks.crowd import Crowd
    from scripts.benchmarks.load_client import Event

USERS = 40
FEW_USERS = changed(Policy(), {"limits.submissions": 1 << 20})
WARM = 4.0  # seconds until the pools are full
LANES = 192  # contacts under way at once: some pools for each proxy
STEADY = 0.6  # of the most that it takes: where users should find it
SPAWN = multiprocessing.get_context("spawn")


class Clients:
    """The users' side: processes that are told what to do."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []

    async def start(self, crowd: Crowd, day: int, contacts: int, progress: Progress) -> None:
        """Have them make their submissions."""
        task = progress.add_task("making submissions", total=contacts)
        each = contacts // self._count
        for number in range(self._count):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=load_client.main, args=(theirs, crowd, number, day, each), daemon=True)
            process.start()
            theirs.close()  # so that its end is heard of here
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            while (said := await asyncio.to_thread(pipe.recv))[0] != "ready":
                progress.advance(task, said[1])
        progress.remove_task(task)

    async def play(self, phase: Phase) -> list[Event]:
        """Do this, all of them at once."""
        share = Phase(phase.seconds, phase.lanes // self._count, phase.rate / self._count, phase.patient)
        return [event for events in await self._ask([share] * self._count) for event in events]

    async def finish(self) -> dict[str, int]:
        """Complete all contacts that were begun."""
        told = await self._ask([LANES // self._count] * self._count)
        return {name: sum(one[name] for one in told) for name in told[0]}

    async def _ask(self, what: list[Any]) -> list[Any]:
        for pipe, one in zip(self._pipes, what, strict=True):
            pipe.send(one)
        return [(await asyncio.to_thread(pipe.recv))[1][0] for pipe in self._pipes]

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [process.pid or 0 for process in self._processes]

    def end(self) -> None:
        """End them at once, if they have not ended."""
        for process in self._processes:
            process.terminate()

    async def stop(self) -> list[tuple[bytes, bytes, bool]]:
        """End them; what the backend accepted, as they saw it: (CCM, nullifier, signed)."""
        for pipe in self._pipes:
            pipe.send(None)
        seen = [(await asyncio.to_thread(pipe.recv))[1] for pipe in self._pipes]
        for process in self._processes:
            await asyncio.to_thread(process.join)
        return [one for accepted in seen for one in accepted]


class Run:
    """The measuring of one backend."""

    def __init__(self, bed: Bed, clients: Clients, progress: Progress, seconds: float) -> None:
        self._bed = bed
        self._clients = clients
        self._progress = progress
        self._seconds = seconds

    async def phase(self, name: str, phase: Phase, warm: float = 0.0) -> Measured:
        """Play it. Rates and times: of what happens between the warm-up and its end; the cost: that of all of it."""
        task = self._progress.add_task(name, total=phase.seconds)
        costs, metrics, begun = self._processor(), await asyncio.to_thread(self._bed.metrics), time.monotonic()
        playing = asyncio.create_task(self._clients.play(phase))
        while (passed := time.monotonic() - begun) < phase.seconds:
            self._progress.update(task, completed=passed)
            await asyncio.sleep(0.1)
        events, ended = await playing, begun + passed
        after, metrics = self._processor(), await asyncio.to_thread(self._bed.metrics) - metrics
        self._progress.remove_task(task)
        pool = metrics["spot_pool_size_sum"] / max(1, metrics["spot_pool_size_count"])
        signed, pending = (metrics[f'spot_submissions_total{{outcome="{one}"}}'] for one in ("signed", "pending"))
        return Measured(
            seconds=phase.seconds - warm,
            events=[event for event in events if begun + warm <= event.at < ended] if warm else events,
            accepted=sum(event.status == HTTPStatus.OK for event in events),
            costs={part: after[part] - costs.get(part, 0.0) for part in after},
            pool=pool,
            signed=signed / max(1, signed + pending),
        )

    def _processor(self) -> dict[str, float]:
        return self._bed.processor() | {"clients": sum(map(processor_seconds, self._clients.pids))}

    async def measure(self, name: str) -> Outcome:
        """All phases, and what is written down in the end."""
        most = await self.phase("the most", Phase(WARM + self._seconds, lanes=LANES), WARM)
        contacts = max(1.0, most.submissions / SUBMISSIONS)
        easy = Phase(WARM + self._seconds, rate=STEADY * contacts)
        steady = await self.phase("60 % of it", easy, WARM)
        offered = OVERLOAD * most.submissions
        overload = await self.phase("overload", Phase(self._seconds, rate=offered, patient=False))
        after = await self.phase("60 % again", easy, WARM)
        task = self._progress.add_task("completing", total=None)
        told = await self._clients.finish()
        self._progress.remove_task(task)
        accepted = await self._clients.stop()
        recorded = await self._bed.recorded()
        lost = sum(recorded.get((ccm, nullifier)) is None for ccm, nullifier, _ in accepted)
        pool = max(1, round(most.pool))
        with ProcessPoolExecutor(1, SPAWN) as worker:
            floor = await asyncio.wrap_future(worker.submit(submission_floor.floor, pool, round(pool * most.signed)))
        return Outcome(name, most, steady, overload, offered, after, floor, told, lost)


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("load", help="contacts a second through a backend of processes, and overload")
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="sqlite", help="of the server")
    parser.add_argument(
        "--tls", action=argparse.BooleanOptionalAction, help="measure with TLS only, or without only (default: both)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="measured in each phase (default 15)")
    parser.add_argument("--clients", type=int, default=1, help="processes that play users (default 1)")
    parser.add_argument("--contacts", type=int, default=8000, help="made ahead for each backend (default 8000)")
    parser.add_argument("--folder", type=Path, help="where the backends live (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where something that was accepted is lost."""
    databases = DATABASES if options.database == "both" else (options.database,)
    kinds = [
        (database, tls) for database in databases for tls in ((False, True) if options.tls is None else (options.tls,))
    ]
    outcomes = []
    with Progress(console=notes, transient=True) as progress, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for database, tls in kinds:
            try:
                outcomes.append(asyncio.run(_measure(Path(folder), database, options, progress, tls=tls)))
            except SpotError as error:
                notes.print(f"bench: {error.text}")
                return error.exit_code
    if options.json:
        print(json.dumps({"machine": machine(), "outcomes": [one.as_json() for one in outcomes]}, indent=2))
    else:
        tell(outcomes)
    return int(not all(one.kept for one in outcomes))


async def _measure(
    folder: Path, database: str, options: argparse.Namespace, progress: Progress, *, tls: bool
) -> Outcome:
    clients, name = Clients(options.clients), f"{database}, TLS" if tls else database
    async with opened(folder / name, Plan(port=0, policy=FEW_USERS, tls=tls), database) as bed:
        day = today(ScaledClock(Timescale()))
        crowd = await gather(bed.folder, USERS, day)
        try:
            await clients.start(crowd, day, options.contacts, progress)
            return await Run(bed, clients, progress, options.seconds).measure(name)
        finally:
            clients.end()
