"""A backend to measure or to break: founded in a temporary folder, its parts in processes of their own."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from backend_stub import authority, settings, store
from backend_stub import database as db
from backend_stub.founding import found
from backend_stub.server import DATABASE
from backend_stub.settings import ProxySettings
from scripts import postgres
from scripts.benchmarks.parts import Part, processor_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backend_stub.founding import Plan
    from scripts.postgres import Cluster

DATABASES = ("sqlite", "postgresql")


@dataclass
class Bed:
    """The parts by name, authority first, and PostgreSQL where they keep to it."""

    folder: Path
    parts: dict[str, Part]
    cluster: Cluster | None = None

    @property
    def authority(self) -> str:
        """The authority's URL."""
        return settings.read_part(self.folder / authority.FOLDER).url

    @property
    def proxies(self) -> list[ProxySettings]:
        """The proxies' settings."""
        return [settings.read(ProxySettings, self.folder / name) for name in self.parts if name.startswith("proxy-")]

    async def recorded(self) -> dict[tuple[bytes, bytes], int | None]:
        """What the servers wrote down: the signed day by (CCM, nullifier); None where it is not signed."""
        return await recorded(self.folder)

    async def start(self) -> None:
        """Start all parts, and wait until they take connections. Raises SpotError."""
        for part in self.parts.values():
            part.start()
        for part in self.parts.values():
            await part.answering()

    def stop(self) -> None:
        """Stop all parts, proxies first."""
        for part in reversed(self.parts.values()):
            part.stop()

    def processor(self) -> dict[str, float]:
        """Processor seconds that each part has taken so far, PostgreSQL under its own name."""
        found = {name: processor_seconds(part.pid) for name, part in self.parts.items()}
        if self.cluster is not None:
            found["postgresql"] = processor_seconds(postgres_pid(self.cluster))
        return found


def postgres_pid(cluster: Cluster) -> int:
    """The number of the process that all others of a cluster come from."""
    return int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])


@asynccontextmanager
async def opened(folder: Path, plan: Plan, database: str) -> AsyncIterator[Bed]:
    """A backend of this plan, running until the end of the block. Raises SpotError."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres.running({})) if database == "postgresql" else None
        await found(folder, plan)
        parts = {name: Part(folder / name) for name in settings.parts(folder)}
        bed = Bed(folder, parts, cluster)
        stack.callback(bed.stop)
        await bed.start()
        yield bed
        await asyncio.to_thread(bed.stop)


async def recorded(folder: Path) -> dict[tuple[bytes, bytes], int | None]:
    """What the server wrote down: the signed day by (CCM, nullifier); None where it has not signed."""
    table = store.submissions.c
    told = settings.read(settings.ServerSettings, folder / "server")
    async with db.opened(folder / "server" / DATABASE, store.SERVER, told.database) as database:
        rows = await database.run(
            lambda connection: connection.execute(select(table.ccm, table.nullifier, table.signed_day))
        )
    return {(row.ccm, row.nullifier): row.signed_day for row in rows}
