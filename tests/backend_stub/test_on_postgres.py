"""A whole backend on PostgreSQL, with two processes of the authority: what is once only is done once."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from backend_stub.authority import chains, codes, join, report
from backend_stub.authority import service as authority
from backend_stub.storage import tables
from protocol import credential, declaration
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import CodeRefused, Misuse
from tests.backend_stub import support
from tests.backend_stub.support import Encounter

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.authority.service import Authority
    from protocol.messages import Receipt
    from scripts.postgres import Cluster
    from tests.backend_stub.support import Declaring


async def test_the_whole_way_with_two_authorities(
    tmp_path: Path, postgres: Cluster, clock: support.ManualClock
) -> None:
    plan = replace(support.PLAN, database=postgres.fresh())
    await support.found(tmp_path / "backend", clock, plan)
    with pytest.raises(Misuse, match="in this database"):
        await support.found(tmp_path / "another", clock, plan)
    async with support.world(tmp_path / "backend", clock) as there, there.office() as one, there.office() as other:
        left, right = await there.pair()
        met, record = await there.meet(left, right)
        assert (await there.declare(left, await there.code(), [(met, record)])).accepted
        assert sorted(await asyncio.gather(chains.publish(one), chains.publish(other))) == [0, 1]
        assert len(await there.publications()) == 1

        invitation = await there.invite()
        bodies = [await there.join_body(invitation, credential.new_secret(secrets.token_bytes)) for _ in range(4)]
        joining = (join.join(office, body) for office, body in zip((one, other, one, other), bodies, strict=True))
        joined = await asyncio.gather(*joining, return_exceptions=True)
        assert [type(result) for result in joined if not isinstance(result, bytes)] == [CodeRefused] * 3

        clock.pass_by(days=80)
        await asyncio.gather(chains.renew(one), chains.renew(other))
        assert (await there.trusted()).head.number == 1, "renewed once"
        await asyncio.gather(one.clean(), other.clean())


async def test_reports_to_two_authorities_at_once(
    tmp_path: Path, postgres: Cluster, clock: support.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts are counted, a code is spent, a contact is declared and a report is answered once, whoever is asked."""
    await support.found(tmp_path / "backend", clock, replace(support.PLAN, database=postgres.fresh()))
    async with support.world(tmp_path / "backend", clock) as there, there.office() as one, there.office() as other:
        left, right = await there.pair()
        met = [await there.meet(left, right) for _ in range(4)]

        async def declare(*reports: Declaring) -> list[Receipt]:
            at = (one, other) * len(reports)
            opened = [await report.unseal(office, each.sealed) for office, each in zip(at, reports, strict=False)]
            answers = await asyncio.gather(*map(report.answer, at, opened))
            pairs = zip(answers, reports, strict=True)
            return [declaration.open_receipt(answer, each.reply_key) for answer, each in pairs]

        code = await there.code()
        bad = [(Encounter(), record) for _, record in met]
        tried = await declare(*[await there.report(left, code, bad) for _ in range(report.ATTEMPTS + 4)])
        problems = sorted(receipt.problem for receipt in tried)
        assert problems == ["code-attempts"] * 4 + ["contacts"] * report.ATTEMPTS

        several = [await there.code() for _ in range(4)]
        overlapping = await declare(*[await there.report(left, each, met[:2]) for each in several])
        assert sum(receipt.accepted for receipt in overlapping) == 1
        assert await spent(one) == 1, "no code is spent for a list that was not accepted"

        code = await there.code()
        twice = await declare(*[await there.report(left, code, [each]) for each in met[2:]])
        assert sorted(receipt.problem for receipt in twice) == ["", "code-spent"]

        same = await there.report(right, await there.code(), [await there.meet(right, left)])
        assert [receipt.accepted for receipt in await declare(same, same)] == [True, True]

        # The code expires while one process still checks the report, and another has answered it meanwhile.
        late = support.ManualClock(clock.now() + 3 * SECONDS_A_DAY)
        check = report._check

        async def slow(office: Authority, *rest: Any) -> Any:
            grounds = await check(office, *rest)
            async with authority.opened(there.backend.folder / "authority", late) as later:
                await report.answer(later, rest[0])
            return grounds

        before = await spent(one), len(await waiting(one))
        monkeypatch.setattr(report, "_check", slow)
        (answer,) = await declare(await there.report(left, await there.code(), [await there.meet(left, right)]))
        assert answer.problem == "code-expired"
        assert (await spent(one), len(await waiting(one))) == before, "what is answered so has no effect"


async def spent(office: Authority) -> int:
    return sum(each.state == codes.USED for each in await codes.codes(office))


async def waiting(office: Authority) -> list[Any]:
    return list(await office.database.run(lambda connection: connection.execute(select(tables.tokens))))
