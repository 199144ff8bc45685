"""Databases of older and newer programs, and databases that are busy or away for a while."""

from __future__ import annotations

import asyncio
import re
import secrets
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from backend_stub.server.matching import match
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol.errors import Misuse, StorageError, Unreachable
from tests.backend_stub.databases import KINDS, entry, kept, several

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from scripts.postgres import Cluster

# As it was made before versions were kept, by SQLite; for PostgreSQL only types and words differ.
OLD_AUTHORITY = """
CREATE TABLE links (chain VARCHAR(16) NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL,
  signature BLOB NOT NULL, PRIMARY KEY (chain, number), UNIQUE (chain, hash));
CREATE TABLE invitations (hash BLOB NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (hash));
CREATE TABLE members (invitation BLOB NOT NULL, nonce BLOB NOT NULL, public BLOB NOT NULL, request BLOB NOT NULL,
  issued BLOB NOT NULL, PRIMARY KEY (invitation), FOREIGN KEY(invitation) REFERENCES invitations (hash),
  UNIQUE (nonce), UNIQUE (public));
CREATE TABLE proxies (name VARCHAR(32) NOT NULL, "group" VARCHAR(32) NOT NULL, url VARCHAR(255) NOT NULL,
  public BLOB NOT NULL, opening BLOB NOT NULL, removed BOOLEAN NOT NULL, PRIMARY KEY (name), UNIQUE (url),
  UNIQUE (public));
CREATE TABLE codes (hash BLOB NOT NULL, onset INTEGER NOT NULL, expires_at BIGINT NOT NULL, spent_by BLOB,
  PRIMARY KEY (hash));
CREATE TABLE reports (digest BLOB NOT NULL, code BLOB NOT NULL, answer BLOB, PRIMARY KEY (digest),
  FOREIGN KEY(code) REFERENCES codes (hash));
CREATE INDEX ix_reports_code ON reports (code);
CREATE TABLE reported (nullifier BLOB NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (nullifier)) WITHOUT ROWID;
CREATE INDEX ix_reported_day ON reported (day);
CREATE TABLE tokens (token BLOB NOT NULL, day INTEGER NOT NULL, level INTEGER NOT NULL, PRIMARY KEY (token))
  WITHOUT ROWID;
INSERT INTO proxies VALUES ('kept', 'group-1', 'http://one', 'public', 'opening', FALSE);
"""
OLD_SERVER = """
CREATE TABLE submissions (ccm BLOB NOT NULL, nullifier BLOB NOT NULL, day INTEGER NOT NULL, signed_day INTEGER,
  PRIMARY KEY (ccm, nullifier)) WITHOUT ROWID;
CREATE INDEX ix_submissions_day ON submissions (day);
INSERT INTO submissions SELECT CAST(ccm AS BLOB), CAST(nullifier AS BLOB), day, signed_day FROM (
  SELECT 'met' AS ccm, 'early' AS nullifier, 4 AS day, 4 AS signed_day UNION SELECT 'met', 'late', 5, 4
  UNION SELECT 'alone', 'early', 5, NULL) AS rows;
"""


def for_postgres(statements: str) -> str:
    return re.sub(r"\s*WITHOUT ROWID", "", statements.replace("BLOB", "BYTEA"))


async def make_old(statements: str, part: str, file: Path, url: str) -> None:
    if not url:
        with closing(sqlite3.connect(file)) as old:
            old.executescript(statements)
        return
    connection = await asyncpg.connect(url, server_settings={"search_path": part})
    await connection.execute(f"CREATE SCHEMA {part}")
    await connection.execute(for_postgres(statements))
    await connection.close()


def differences(connection: Connection, part: tables.Part) -> list[object]:
    context = MigrationContext.configure(connection)
    return [one for one in compare_metadata(context, part.tables) if "schema_version" not in str(one)]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("postgres").fresh() if request.param == "postgresql" else ""


@pytest.mark.filterwarnings("ignore:autogenerate skipping")
async def test_an_old_database_is_brought_up_to_date(tmp_path: Path, url: str) -> None:
    file = tmp_path / "authority.db"
    await make_old(OLD_AUTHORITY, "authority", file, url)
    again = {"name": "new", "group": "group-1", "url": "http://one", "public": b"2", "opening": b"2", "removed": False}
    for name in ("new", "newer"):  # the second time it is up to date
        async with db.opened(file, tables.AUTHORITY, url) as database:
            added = insert(tables.proxies).values(again | {"name": name, "public": name.encode()})
            await database.run(partial(AsyncConnection.execute, statement=added))
            found = partial(AsyncConnection.run_sync, fn=differences, part=tables.AUTHORITY)
            assert await database.run(found) == []
            names = await database.run(lambda connection: connection.scalars(tables.proxies.select()))
    assert set(names.all()) == {"kept", "new", "newer"}


async def test_who_was_signed_for_the_day_before_is_signed_for_the_own_day(tmp_path: Path, url: str) -> None:
    file = tmp_path / "server.db"
    await make_old(OLD_SERVER, "server", file, url)
    before = {(b"met", b"early"): (4, True), (b"met", b"late"): (5, True), (b"alone", b"early"): (5, False)}
    asked = [entry(ccm, nullifier, day) for (ccm, nullifier), (day, _) in before.items()]
    async with db.opened(file, tables.SERVER, url) as database:
        assert await database.run(partial(AsyncConnection.run_sync, fn=differences, part=tables.SERVER)) == []
        assert await kept(database) == before
        assert await match(database, asked, 5, 5) == [signed for _, signed in before.values()]
        assert await match(database, [entry(b"alone", b"late", 5)], 5, 5) == [True]


async def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path, url: str) -> None:
    async with db.opened(tmp_path / "server.db", tables.SERVER, url) as database:
        newer = text("UPDATE schema_version SET version_num = '999'")
        await database.run(lambda connection: connection.execute(newer))
    with pytest.raises(StorageError, match=r"newer program.*999.*upgrade this program"):
        async with db.opened(tmp_path / "server.db", tables.SERVER, url):
            pass


async def test_a_busy_sqlite_holds_up_nobody_else(tmp_path: Path) -> None:
    """The one who is busy is in this very event loop, so it could not end if the loop were held."""
    async with several(tmp_path / "server.db", "", 1) as (database,):
        other = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(match(database, [entry(bytes(32), bytes(48), 1)], 1, 1))
        await asyncio.sleep(db.BUSY_SECONDS * 1.5)
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        assert await waiting == [False]


async def test_a_restart_of_postgres_under_load_loses_nothing(tmp_path: Path, postgres: Cluster) -> None:
    ccms = [secrets.token_bytes(32) for _ in range(60)]
    async with several(tmp_path, postgres.fresh()) as servers:

        async def submit(number: int, side: int) -> None:
            await asyncio.sleep(number * 0.02)
            await match(servers[side], [entry(ccms[number], bytes([side]) * 48, 1)], 1, 1)

        async with asyncio.TaskGroup() as group:
            for number in range(len(ccms)):
                group.create_task(submit(number, 0))
                group.create_task(submit(number, 1))
            for stop in (postgres.stop, postgres.kill):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(stop)
                await asyncio.to_thread(postgres.start)
        everything = [entry(ccm, bytes([side]) * 48, 1) for ccm in ccms for side in (0, 1)]
        assert await match(servers[0], everything, 1, 1) == [True] * len(everything)


async def test_what_reads_whole_tables_may_take_long(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "COMMAND_SECONDS", 1.0)
    long = text("SELECT 1 FROM pg_sleep(1.5)")
    async with db.opened(tmp_path, tables.SERVER, postgres.fresh(), patience=0.1) as database:
        async with database.snapshot() as connection:
            assert await connection.scalar(long) == 1
        with pytest.raises(Unreachable):
            await database.run(lambda connection: connection.scalar(long))


async def test_a_postgres_that_is_away_or_shut_is_said_plainly_and_without_the_password(
    tmp_path: Path, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = postgres.over_tcp(postgres.fresh())
    wrong = good.replace(postgres.password, "open-sesame")
    away = re.sub(r":\d+/", ":1/", wrong)
    for url, kind in ((wrong, Misuse), (away, Unreachable), (good + "-not-there", Misuse)):
        with pytest.raises(kind) as caught:
            async with db.opened(tmp_path, tables.SERVER, url, patience=0.1):
                pass
        assert "sesame" not in str(caught.value)
        assert postgres.password not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    async with db.opened(tmp_path, tables.SERVER, good.replace(f":{postgres.password}", "")):
        pass
