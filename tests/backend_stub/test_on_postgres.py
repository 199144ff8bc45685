"""A whole backend on PostgreSQL, with two processes of the authority: what is once only is done once."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backend_stub import chains, join
from protocol import credential
from protocol.errors import CodeRefused, Misuse
from tests.backend_stub import support

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.postgres import Cluster


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
