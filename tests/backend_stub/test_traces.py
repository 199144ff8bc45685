"""What the databases' files tell beyond their rows: which came together, in which order, and what was forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from backend_stub.authority import chains, join
from backend_stub.operations import backup
from backend_stub.storage import tables
from tests.backend_stub import support

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Row

    from backend_stub.authority.service import Authority
    from scripts.postgres import Cluster
    from tests.backend_stub.support import ManualClock, World


async def declared(there: World, count: int = 3) -> dict[bytes, list[bytes]]:
    """The nullifiers of so many declarers, each by the hash of the code."""
    found = {}
    other = await there.user()
    for _ in range(count):
        user, code = await there.user(), await there.code()
        met = [await there.meet(user, other) for _ in range(3)]
        assert (await there.declare(user, code, met)).accepted
        found[join.hash_of(code.replace("-", ""))] = [record.nullifier for _, record in met]
    return found


async def rows(office: Authority, asked: str) -> list[Row[Any]]:
    return list((await office.database.run(lambda connection: connection.execute(text(asked)))).all())


async def test_postgresql_does_not_tie_nullifiers_to_a_code(
    tmp_path: Path, postgres: Cluster, clock: ManualClock
) -> None:
    """Each row has the number of the transaction that wrote it, and lies where there was room then."""
    await support.found(tmp_path / "backend", clock, replace(support.PLAN, database=postgres.fresh()))
    async with support.world(tmp_path / "backend", clock) as there, there.office() as office:
        await declared(there)
        tied = "SELECT DISTINCT xmin::text FROM {}"
        assert len(await rows(office, tied.format("reported"))) == 3, "so much is known until the next round"
        for _ in range(2):
            await office.clean()
            (one,) = await rows(office, tied.format("reported"))
            assert one not in await rows(office, tied.format("codes"))
            as_they_lie = [bytes(row.nullifier) for row in await rows(office, "SELECT * FROM reported ORDER BY ctid")]
            assert as_they_lie == sorted(as_they_lie)
            assert len(as_they_lie) == 9
        (tokens,) = await rows(office, tied.format("tokens"))
        assert tokens not in await rows(office, tied.format("codes"))
        await chains.publish(office)
        await office.clean()
        ((left,),) = await rows(office, "SELECT pg_relation_size('tokens')")
        assert left == 0, "what was published is no longer there as dead rows, either"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_tables_in_a_backup_are_in_the_order_of_their_keys(
    database: str, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").fresh() if database == "postgresql" else ""
    folder, file = tmp_path / "backend", tmp_path / "backup.age"
    await support.found(folder, clock, replace(support.PLAN, database=url))
    async with support.world(folder, clock) as there:
        await declared(there)
    await backup.write(folder, file, b"passphrase", clock.now())
    found: dict[str, list[tuple[object, ...]]] = {}
    every = {**tables.authority.tables, **tables.server.tables}
    for entry in backup.read(file, b"passphrase"):
        if isinstance(entry, backup.Entry) and entry.kind == backup.TABLES:
            key = [column.name for column in every[entry.name].primary_key.columns]
            found.setdefault(entry.name, []).extend(tuple(row[name] for name in key) for row in entry.rows())
    assert len(found["submissions"]) == 18
    for name in ("submissions", "reported", "tokens", "codes", "reports", "members", "invitations"):
        assert found[name] == sorted(found[name]), name


def contents(folder: Path) -> bytes:
    """Of all files in there, but those that are gone meanwhile."""
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(file.read_bytes() if file.is_file() else b"")
    return b"".join(found)


async def test_what_is_forgotten_is_in_no_file_of_the_part(there: World, clock: ManualClock) -> None:
    """While it runs: not in what it wrote ahead, either."""
    nullifiers = [one for some in (await declared(there)).values() for one in some]
    folder = there.backend.folder

    async def left() -> bool:
        clock.pass_by(seconds=3600)
        data = [await asyncio.to_thread(contents, folder / part) for part in ("authority", "server")]
        return any(one in some for one in nullifiers for some in data)

    assert await left()
    clock.pass_by(days=16)

    async def gone() -> bool:
        return not await left()

    await support.eventually(gone)
