"""The match through two servers over one database: in the same instant, repeated, in any order, many at once."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import update

from backend_stub.server.matching import Entry, forget, match
from backend_stub.storage import tables
from tests.backend_stub.databases import entry, kept
from tests.support import world_of

if TYPE_CHECKING:
    from backend_stub.storage.database import Database

DAY = 20_000
TIMES = 40
POOL = 1024


def sides(day: int = DAY, other_day: int = DAY) -> tuple[Entry, Entry]:
    ccm = secrets.token_bytes(32)
    return entry(ccm, secrets.token_bytes(48), day), entry(ccm, secrets.token_bytes(48), other_day)


async def test_both_sides_in_the_same_instant(servers: list[Database]) -> None:
    for _ in range(TIMES):
        pair = sides(DAY, DAY - 1)
        at_once = [match(server, [one], DAY - 3, DAY) for server, one in zip(servers, pair, strict=True)]
        first = [found for (found,) in await asyncio.gather(*at_once)]
        assert True in first, "whoever looked last saw both"
        assert await match(servers[0], pair, DAY - 3, DAY) == [True, True]
        assert all(found in (False, True) for found in first)


async def test_full_pools_in_opposite_orders_do_not_stop_each_other(servers: list[Database]) -> None:
    pairs = [sides() for _ in range(POOL // 2)]
    asked = [one for pair in pairs for one in pair]
    shuffled = [random.sample(asked, len(asked)) for _ in range(4)]
    await asyncio.gather(
        *(match(servers[number % 2], [*pool, pool[0]][:POOL], DAY, DAY) for number, pool in enumerate(shuffled))
    )
    assert await match(servers[0], asked, DAY, DAY) == [True] * POOL
    assert set((await kept(servers[1])).values()) == {(DAY, True)}


async def test_of_two_days_at_once_one_stands(servers: list[Database]) -> None:
    for _ in range(TIMES // 4):
        one, _ = sides()
        other = entry(one.ccm, one.nullifier, DAY - 1)
        at_once = (match(server, [asked], DAY - 3, DAY) for server, asked in zip(servers, (one, other), strict=True))
        found = [result for (result,) in await asyncio.gather(*at_once)]
        assert sorted(result is False for result in found) == [False, True], "one is pending, one refused"


async def test_a_third_side_changes_nothing_for_the_others(servers: list[Database]) -> None:
    left, right = sides()
    third = entry(left.ccm, secrets.token_bytes(48), DAY - 1)
    assert await match(servers[0], [left], DAY - 3, DAY) == [False]
    assert await match(servers[1], [right], DAY - 3, DAY) == [True]
    assert await match(servers[0], [third], DAY - 3, DAY) == [True]
    assert await match(servers[1], [left, right, third], DAY - 3, DAY) == [True] * 3
    assert set((await kept(servers[0])).values()) == {(DAY, True), (DAY - 1, True)}


async def test_a_side_goes_once_no_other_can_come_and_no_sooner(servers: list[Database]) -> None:
    limits = world_of("arkworks").parameters.limits
    alone, (early, late) = sides()[0], sides(DAY, DAY + 1)
    await match(servers[0], [alone, early, late], DAY, DAY + 1)
    # Of a pair that was recorded, and not looked at any more: its server was stopped in between.
    unmarked = update(tables.submissions).values(signed=False)
    await servers[0].run(lambda connection: connection.execute(unmarked))
    for today, left in ((DAY + 4, 3), (DAY + 5, 2), (DAY + 14, 2), (DAY + 15, 0)):
        await forget(servers[1], today, limits)
        assert len(await kept(servers[0])) == left, today - DAY
    assert await match(servers[0], [alone], DAY, DAY) == [False], "nothing is left of it"
