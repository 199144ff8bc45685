"""What the authority forgets, when, and what it must not: on both databases."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from backend_stub.authority import chains, join, report
from backend_stub.authority import service as authority
from backend_stub.storage import tables
from backend_stub.storage.database import new
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import SpotError
from tests.backend_stub import support

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from tests.backend_stub.support import ManualClock


@asynccontextmanager
async def office_on(
    database: str, folder: Path, clock: ManualClock, request: pytest.FixtureRequest
) -> AsyncIterator[Authority]:
    """An authority on this kind of database."""
    url = request.getfixturevalue("postgres").fresh() if database == "postgresql" else ""
    await support.found(folder / "backend", clock, replace(support.PLAN, database=url))
    async with authority.opened(folder / "backend" / "authority", clock) as opened:
        yield opened


async def count(office: Authority, table: Table) -> int:
    async def look(connection: AsyncConnection) -> int:
        return await connection.scalar(select(func.count()).select_from(table)) or 0

    return await office.database.run(look)


async def add(office: Authority, table: Table, *rows: Mapping[str, object]) -> None:
    async def enter(connection: AsyncConnection) -> None:
        for row in rows:
            await connection.execute(new(table, connection).values(row))

    await office.database.run(enter)


async def member(office: Authority, renewed_until: int | None = None, *, ended: bool = False) -> None:
    """Somebody who joined today, renewed until that day, and may be ended."""
    (invitation,) = await join.invite(office, 1)
    hash_, public = join.hash_of(invitation.replace("-", "")), secrets.token_bytes(48)
    row = {"invitation": hash_, "nonce": secrets.token_bytes(32), "public": public, "request": bytes(32), "issued": b""}
    await add(office, tables.members, row)
    if renewed_until is not None:
        await add(
            office, tables.credentials, {"public": public, "issuer": 2, "until_day": renewed_until, "issued": b""}
        )
    if ended:
        await add(office, tables.ended, {"invitation": hash_})


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_members_are_known_until_they_can_neither_renew_nor_declare(
    database: str, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    async with office_on(database, tmp_path, clock, request) as office:
        lapse = office.told.lapse_days + 14
        await member(office)
        await member(office, clock.today + 300)
        await member(office, ended=True)
        await member(office, clock.today + office.told.issuer_days, ended=True)
        clock.pass_by(days=office.told.issuer_days + lapse - 1)
        await chains.renew(office)
        await office.clean()
        assert await count(office, tables.members) == 4, "whoever comes back within a year of the last credential's end"

        clock.pass_by(days=office.told.invitation_days + 2)
        await office.clean()
        assert await count(office, tables.members) == 1
        assert [await count(office, table) for table in (tables.ended, tables.credentials)] == [0, 1]

        clock.pass_by(days=300)
        await chains.renew(office)
        await office.clean()
        about_people = (tables.members, tables.ended, tables.credentials, tables.invitations)
        assert [await count(office, table) for table in about_people] == [0] * 4


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_codes_reports_and_nullifiers_go_when_nothing_depends_on_them(
    database: str, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    async with office_on(database, tmp_path, clock, request) as office:
        code = join.hash_of((await report.make_code(office, clock.today, SECONDS_A_DAY)).replace("-", ""))
        await add(office, tables.reports, {"digest": bytes(32), "code": code})
        old = ({"nullifier": number.to_bytes(48, "big"), "day": clock.today - 1} for number in range(2500))
        await add(office, tables.reported, *old, {"nullifier": b"n" * 48, "day": clock.today})
        clock.pass_by(days=14)
        await office.clean()
        assert await count(office, tables.reported) == 1, "more than one slice of those past retention"
        assert [await count(office, table) for table in (tables.codes, tables.reports)] == [1, 1]

        clock.pass_by(seconds=authority.CODES_KEPT)
        await chains.renew(office)
        await office.clean()
        assert [await count(office, table) for table in (tables.codes, tables.reports, tables.reported)] == [0] * 3


async def test_a_report_that_comes_while_its_old_code_is_forgotten(
    tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an expected error, which a running authority outlives; the next time nothing is in the way."""
    async with office_on("sqlite", tmp_path, clock, request) as office:
        code = join.hash_of((await report.make_code(office, clock.today, SECONDS_A_DAY)).replace("-", ""))
        clock.pass_by(seconds=authority.CODES_KEPT + 2 * SECONDS_A_DAY)
        await chains.renew(office)
        forget = office.database.forget

        async def beside(table: Table, *where: ColumnElement[bool]) -> int:
            gone = await forget(table, *where)
            if table is tables.reports:
                await add(office, tables.reports, {"digest": bytes(32), "code": code})
            return gone

        monkeypatch.setattr(office.database, "forget", beside)
        with pytest.raises(SpotError):
            await office.clean()
        monkeypatch.undo()
        await office.clean()
        assert [await count(office, table) for table in (tables.codes, tables.reports)] == [0, 0]


async def test_an_answer_is_kept_as_long_as_its_report_could_be_sent_again(tmp_path: Path, clock: ManualClock) -> None:
    """By a proxy that kept it: a second answer under the same reply key would show what the first said."""
    await support.found(tmp_path / "backend", clock)
    async with authority.opened(tmp_path / "backend" / "authority", clock, {"parameters_days": 200}) as office:
        code = join.hash_of((await report.make_code(office, clock.today, SECONDS_A_DAY)).replace("-", ""))
        await add(office, tables.reports, {"digest": bytes(32), "code": code})
        clock.pass_by(days=199)
        await office.clean()
        assert [await count(office, table) for table in (tables.codes, tables.reports)] == [1, 1]
        clock.pass_by(days=3)
        await office.clean()
        assert [await count(office, table) for table in (tables.codes, tables.reports)] == [0, 0]
