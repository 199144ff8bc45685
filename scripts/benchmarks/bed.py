"""A backend to measure or to break: founded in a temporary folder, its parts in processes of their own."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import select

from backend_stub import settings
from backend_stub.authority import chains
from backend_stub.authority import service as authority
from backend_stub.operations.founding import found
from backend_stub.server.service import DATABASE
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import messages
from protocol.messages import Publication
from scripts import postgres
from scripts.benchmarks.parts import Part, processor_seconds
from scripts.benchmarks.reconciling import Office

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.clock import Clock
    from backend_stub.operations.founding import Plan
    from protocol.messages import Parameters
    from scripts.benchmarks.reconciling import Recorded
    from scripts.postgres import Cluster

DATABASES = ("sqlite", "postgresql")
SERVERS = 2  # processes of the server


@dataclass
class Bed:
    """The parts' processes, authority first, and PostgreSQL where they keep to it."""

    folder: Path
    parts: list[Part]
    cluster: Cluster | None = None

    async def start(self) -> None:
        """Start all parts, and wait until they take connections. Raises SpotError."""
        for part in self.parts:
            part.start()
        for part in self.parts:
            await part.answering()

    def stop(self) -> None:
        """Stop all parts, proxies first."""
        for part in reversed(self.parts):
            part.stop()

    def processor(self) -> dict[str, float]:
        """Processor seconds that each part has taken so far, PostgreSQL under its own name."""
        found = {part.name: processor_seconds(part.pid) for part in self.parts}
        if self.cluster is not None:
            found["postgresql"] = processor_seconds(self.cluster.pid)
        return found

    def metrics(self) -> Counter[str]:
        """The metrics of all parts, summed."""
        total: Counter[str] = Counter()
        for part in self.parts:
            for name, value in part.metrics().items():
                total[name] += value  # type: ignore[assignment] # a count of seconds
        return total

    # --- what is written down ---

    async def recorded(self) -> Recorded:
        """What the servers wrote down."""
        told = settings.read(settings.ServerSettings, self.folder / "server")
        async with db.opened(self.folder / "server" / DATABASE, tables.SERVER, told.database) as database:
            rows = await database.run(lambda connection: connection.execute(select(tables.submissions)))
        return {(row.ccm, row.nullifier): (row.day, row.signed) for row in rows}

    async def office(self, clock: Clock) -> Office:
        """What the authority wrote down."""
        async with authority.opened(self.folder / authority.FOLDER, clock) as opened:
            return await opened.database.run(_office)

    async def parameters(self, clock: Clock) -> Parameters:
        """The newest parameters."""
        async with authority.opened(self.folder / authority.FOLDER, clock) as opened:
            return (await opened.current()).trusted.parameters

    async def move_proxy(self, old: str, new: str, clock: Clock) -> None:
        """Say in new parameters that the proxy of this URL is now at another."""

        def moved(before: Parameters) -> Parameters:
            groups = tuple(
                msgspec.structs.replace(one, proxies=tuple(new if url == old else url for url in one.proxies))
                for one in before.groups
            )
            return msgspec.structs.replace(before, groups=groups)

        async with authority.opened(self.folder / authority.FOLDER, clock) as opened:
            await opened.database.run(lambda connection: chains.change(opened, connection, moved))


async def _office(connection: AsyncConnection) -> Office:
    codes = await connection.execute(select(tables.codes.c.hash, tables.codes.c.spent_by))
    spent = {row.hash: row.spent_by for row in codes}
    reported = set((await connection.scalars(select(tables.reported.c.nullifier))).all())
    waiting = set((await connection.scalars(select(tables.tokens.c.token))).all())
    published: Counter[bytes] = Counter()
    for number in range((await chains.head(connection, chains.PUBLICATIONS)).number + 1):
        link = await chains.link(connection, chains.PUBLICATIONS, number)
        if link is not None:
            published.update(_tokens(messages.decode(Publication, link.body)))
    return Office(spent, reported, published, waiting)


def _tokens(batch: Publication) -> list[bytes]:
    size = 16
    return [day.tokens[at : at + size] for day in batch.days for at in range(0, len(day.tokens), size)]


def processes(folder: Path) -> list[tuple[Path, int]]:
    """The processes to be run of the backend in this folder: a part's folder, and which of its processes it is."""
    names = settings.parts(folder)
    return [(folder / name, number) for name in names for number in range(1, (SERVERS if name == "server" else 1) + 1)]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:  # all held at once, so that none comes twice
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


@asynccontextmanager
async def opened(folder: Path, plan: Plan, database: str) -> AsyncIterator[Bed]:
    """A backend of this plan, whose parts tell their metrics, until the end of the block. Raises SpotError."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres.running({})) if database == "postgresql" else None
        await found(folder, replace(plan, database=cluster.fresh()) if cluster else plan)
        bed = Bed(folder, [Part(*one) for one in processes(folder)], cluster)
        for part, port in zip(bed.parts, _free_ports(len(bed.parts)), strict=True):
            part.watch_port = port
        stack.callback(bed.stop)
        await bed.start()
        yield bed
        await asyncio.to_thread(bed.stop)
