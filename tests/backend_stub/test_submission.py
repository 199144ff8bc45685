"""Submissions: two sides in any order, days, refusals, and what a third side can do."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlalchemy import func, select

from backend_stub.server import service as server
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import messages
from protocol.errors import Malformed, Refused
from tests.backend_stub.support import Encounter, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend_stub.support import ManualClock, World


async def outcomes(there: World, *asked: messages.Submission) -> tuple[messages.Outcome, ...]:
    """The server's own answer, past any proxy."""
    body = messages.encode(messages.Submissions(submissions=asked))
    return messages.decode(
        messages.Outcomes, await there.send("POST", there.backend.server + messages.PARTIAL_PATH, body)
    ).outcomes


async def test_pending_until_the_other_side_comes(there: World) -> None:
    left, right = await there.pair()
    met = Encounter()
    assert await there.submit(left, met) is None
    assert await there.submit(left, met) is None, "the same user twice is one side"
    of_right = await there.submit(right, met, proxy=there.proxies[1])
    of_left = await there.submit(left, met)
    assert of_right is not None
    assert of_left is not None
    assert (of_right.group, of_left.group) == ("group-2", "group-1")
    assert of_right.nullifier != of_left.nullifier


async def test_a_repeat_gets_the_same_partial_signature(there: World) -> None:
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    again = await there.submit(left, met)
    assert again is not None
    assert (again.partial, again.day, again.nullifier) == (record.partial, record.day, record.nullifier)
    assert again.proof != record.proof


async def test_both_sides_at_once(there: World) -> None:
    """Whatever the order, at least the later one is signed for, and both by their next question."""
    left, right = await there.pair()
    for met in [Encounter() for _ in range(5)]:
        sides = [there.submit(user, met, proxy=proxy) for user, proxy in zip((left, right), there.proxies, strict=True)]
        assert any(record is not None for record in await asyncio.gather(*sides))
        assert await there.submit(left, met) is not None
        assert await there.submit(right, met) is not None


async def test_many_at_once_each_get_their_own(there: World) -> None:
    left, right = await there.pair()
    mets = [Encounter() for _ in range(20)]
    await asyncio.gather(*(there.submit(left, met) for met in mets))
    records = await asyncio.gather(*(there.submit(right, met) for met in mets))
    assert [record.ccm for record in records if record is not None] == [met.ccm for met in mets]


async def test_both_sides_in_one_batch_are_signed(there: World) -> None:
    left, right = await there.pair()
    met = Encounter()
    both = await outcomes(there, await there.submission(left, met), await there.submission(right, met))
    assert all(outcome.partial is not None for outcome in both)


async def test_the_window_of_first_seen_days(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    today = clock.today
    for day in (today - 3, today):
        assert await there.submit(left, Encounter(), day) is None
    clock.pass_by(days=1)
    for day in (today - 3, today + 2):
        with pytest.raises(Refused, match="too long ago or in the future"):
            await there.submit(right, Encounter(), day)
    clock.pass_by(seconds=43_200 - 179)  # 179 s before midnight, within the tolerance for clocks
    assert await there.submit(right, Encounter(), today + 2) is None


async def test_a_recorded_submission_may_be_asked_for_later_on(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    met, day = Encounter(), clock.today
    assert await there.submit(left, met, day) is None
    clock.pass_by(days=3)
    assert await there.submit(right, met, day) is not None
    clock.pass_by(days=5)
    assert await there.submit(left, met, day) is not None
    with pytest.raises(Refused, match="too long ago"):
        await there.submit(await there.user(), met, day)


async def test_a_second_day_for_one_contact_is_refused(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    met, _ = await there.meet(left, right)
    with pytest.raises(Refused, match="another day before"):
        await there.submit(left, met, clock.today - 1)


async def test_around_midnight_each_side_is_signed_for_its_own_day(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    for early, late in ((left, right), (right, left)):
        met = Encounter()
        assert await there.submit(late, met, clock.today) is None
        of_early = await there.submit(early, met, clock.today - 1)
        of_late = await there.submit(late, met, clock.today)
        assert of_early is not None
        assert of_late is not None
        assert (of_early.day, of_late.day) == (clock.today - 1, clock.today)


async def test_days_further_apart_are_no_match(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    met = Encounter()
    assert await there.submit(left, met, clock.today) is None
    assert await there.submit(right, met, clock.today - 2) is None
    assert await there.submit(left, met, clock.today) is None


async def test_a_third_side_is_signed_for_and_counted(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    met, _ = await there.meet(left, right)
    assert await there.submit(await there.user(), met) is not None


@pytest.mark.parametrize("squatted", [-1, 0, 1])
async def test_a_squatter_cannot_shut_the_true_sides_out(there: World, clock: ManualClock, squatted: int) -> None:
    """Somebody who saw the CCM of an encounter around midnight submits first, for a day near by."""
    left, right = await there.pair()
    squatter = await there.user()
    met, midnight = Encounter(), clock.today - 1
    await there.submit(squatter, met, midnight + squatted)
    await there.submit(left, met, midnight)
    assert await there.submit(right, met, midnight + 1) is not None
    assert await there.submit(left, met, midnight) is not None


async def test_one_bad_submission_does_not_hurt_the_others(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    met = Encounter()
    good = await there.submission(left, met)
    altered = msgspec.structs.replace(await there.submission(left, Encounter()), ccm=secrets.token_bytes(32))
    other_day = msgspec.structs.replace(await there.submission(left, Encounter()), day=clock.today - 1)
    no_point = msgspec.structs.replace(good, show=msgspec.structs.replace(good.show, a=b"\xff" * 48))
    identity = msgspec.structs.replace(good, show=msgspec.structs.replace(good.show, nullifiers=(b"\xc0" + bytes(47),)))
    no_nullifier = msgspec.structs.replace(good, show=msgspec.structs.replace(good.show, nullifiers=()))
    unknown = msgspec.structs.replace(good, issuer=9)
    bad = (altered, other_day, no_point, identity, no_nullifier, unknown)
    found = await outcomes(there, good, *bad, await there.submission(right, met))
    assert [outcome.refusal is not None for outcome in found] == [False, *[True] * len(bad), False]
    assert found[0].partial is not None
    assert found[-1].partial is not None


async def test_a_proxy_refuses_what_is_altered(there: World) -> None:
    user = await there.user()
    altered = msgspec.structs.replace(await there.submission(user, Encounter()), ccm=secrets.token_bytes(32))
    with pytest.raises(Refused, match="does not hold"):
        await there.send_submission(altered)


async def test_a_proxy_takes_two_nullifiers_only(there: World) -> None:
    one = await there.submission(await there.user(), Encounter())
    four = msgspec.structs.replace(one.show, nullifiers=one.show.nullifiers * 2, commitments=one.show.commitments * 2)
    with pytest.raises(Malformed, match="exactly two nullifiers"):
        await there.send_submission(msgspec.structs.replace(one, show=four))


async def test_a_credential_ends_with_its_period(there: World, clock: ManualClock) -> None:
    user = await there.user()
    clock.pass_by(days=90)
    await there.follow(1)
    (ended,) = await outcomes(there, await there.submission(user, Encounter(), clock.today))
    assert "period of this credential is over" in (ended.refusal.text if ended.refusal else "")
    (last_day,) = await outcomes(there, await there.submission(user, Encounter(), clock.today - 1))
    assert last_day.refusal is None


async def test_old_submissions_are_forgotten(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    await there.meet(left, right)
    await there.submit(left, Encounter())
    file = there.backend.folder / "server" / server.DATABASE
    for days, stored in ((0, 3), (4, 3), (1, 2), (9, 2), (1, 0)):
        clock.pass_by(days=days)
        await asyncio.sleep(0.1)
        await eventually(partial(_are_stored, stored, file))


async def _are_stored(count: int, file: Path) -> bool:
    async with db.opened(file, tables.SERVER) as database:
        counted = await database.run(lambda connection: connection.scalar(select(func.count(tables.submissions.c.ccm))))
        return counted == count
