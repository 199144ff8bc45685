"""What a submission costs the server's database, by how many are there already: read, match, write, commit."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from backend_stub.server.matching import Entry, match
from backend_stub.server.quota import SIZE, Use
from backend_stub.storage import database as db
from backend_stub.storage import tables
from scripts import postgres
from scripts.benchmarks.tables import machine, machine_text, notes, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from backend_stub.storage.database import Database

ROWS = (10**3, 10**4, 10**5, 10**6)
POOL = 64
POOLS = 60  # timed at each size; the first ones warm caches and are left out
WARM = 10
DAYS = 14  # over which what is there is spread
DAY = 20_000
PIECE = 20_000


@dataclass(frozen=True)
class Point:
    """rows: there already; microseconds: a submission, median over the pools; worst: of a pool's."""

    rows: int
    microseconds: float
    worst: float


def fresh_pairs(count: int) -> list[tuple[Entry, Entry]]:
    """Both sides of so many contacts."""
    made = []
    for _ in range(count):
        ccm = secrets.token_bytes(32)
        made.append((_side(ccm), _side(ccm)))
    return made


def _side(ccm: bytes) -> Entry:
    return Entry(ccm, secrets.token_bytes(48), DAY, Use(DAY, secrets.token_bytes(SIZE), ccm[:SIZE]))


async def fill(database: Database, there: int, rows: int) -> None:
    """Have so many rows there, signed pairs in random order of CCM."""
    while there < rows:
        count = min(PIECE, rows - there)
        piece = [
            {"ccm": one.ccm, "nullifier": one.nullifier, "day": day, "signed": True}
            for number, pair in enumerate(fresh_pairs(count // 2))
            for day in [DAY - number % DAYS]
            for one in pair
        ]
        await database.run(partial(AsyncConnection.execute, statement=insert(tables.submissions), parameters=piece))
        there += count
    analyze = "ANALYZE submissions"
    await database.run(lambda connection: connection.execute(text(analyze)))


async def measure(database: Database, rows: int) -> Point:
    """Pools of one side, then of the other: half of them match."""
    taken = []
    for _ in range(POOLS // 2):
        pairs = fresh_pairs(POOL)
        for side in (0, 1):
            pool = [pair[side] for pair in pairs]
            began = time.perf_counter()
            found = await match(database, pool, DAY - 3, DAY)
            taken.append((time.perf_counter() - began) / POOL * 1e6)
            if found != [bool(side)] * POOL:
                raise RuntimeError("the match is wrong, so its cost says nothing")
    return Point(rows, statistics.median(taken[WARM:]), max(taken[WARM:]))


async def curve(kind: str, rows: Sequence[int], progress: Progress) -> list[Point]:
    """A point for each number of rows."""
    task = progress.add_task(kind, total=sum(rows))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres.running({})).fresh() if kind == "postgresql" else ""
        points, there = [], 0
        async with db.opened(folder / "server.db", tables.SERVER, url) as database:
            for size in rows:
                await fill(database, there, size)
                points.append(await measure(database, size))
                there = size + POOLS * POOL
                progress.advance(task, size)
        return points


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("storage", help="what a submission costs the server's database as it grows")
    parser.add_argument("--rows", type=int, default=ROWS[-1], help="how far to grow (default 1000000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="one of them only")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    kinds = (options.database,) if options.database else ("sqlite", "postgresql")
    sizes = [rows for rows in ROWS if rows <= options.rows] or [options.rows]
    with Progress(console=notes, transient=True) as progress:
        found = {kind: asyncio.run(curve(kind, sizes, progress)) for kind in kinds}
    if options.json:
        curves = {kind: [asdict(point) for point in points] for kind, points in found.items()}
        print(json.dumps({"pool": POOL, "machine": machine(), "curves": curves}, indent=2))
        return 0
    show(
        f"The database's share of a submission, in pools of {POOL}",
        ["database", "rows there", "µs a submission", "slowest pool", "times the first"],
        [
            [
                kind,
                f"{point.rows:,}",
                f"{point.microseconds:.0f}",
                f"{point.worst:.0f}",
                f"{point.microseconds / points[0].microseconds:.2f}",
            ]
            for kind, points in found.items()
            for point in points
        ],
        "Read, match, write and commit, with every commit on the disk; CCMs and nullifiers are random. Half of the "
        "pools are first sides, half the other sides, which are matched and marked as signed, both of them.",
        machine_text(),
    )
    return 0
