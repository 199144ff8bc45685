"""Attack 25: the other side is to be silenced, by declaring first, or by squatting on the CCM as a third nullifier.

Both sides of a contact may declare, each once: only a nullifier that was declared is refused again, and what is
published names the side. A third who saw the CCM (a proxy) may submit it too; the true sides are signed for all the
same. But whoever of a contact's sides asks again before the other has come is signed for beside the third: for the day
before, if the third says so. **Not prevented**: a contact of the first infectious day is then not published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend_stub.authority import report
from backend_stub.server import matching
from protocol.encounter import token_of
from protocol.errors import Refused
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend_stub.server.matching import Entry
    from backend_stub.storage.database import Database


async def declare_first(there: World) -> list[bool]:
    """The attacker declares a contact, then the other side does. Whether each was accepted and each side published."""
    attacker, victim = await there.pair()
    met, record = await there.meet(attacker, victim)
    other = await there.submit(victim, met)
    assert other is not None
    accepted = []
    for role, (user, own) in enumerate(((attacker, record), (victim, other))):
        accepted.append((await there.declare(user, await there.code(), [(met, own)], role)).accepted)
        if accepted[-1]:
            await there.publish()
    tokens = b"".join(day.tokens for batch in await there.publications() for day in batch.days)
    return accepted + [token_of(met.secret, role) in tokens for role in (0, 1)]


async def test_who_declares_second_is_heard(there: World) -> None:
    assert await declare_first(there) == [True] * 4


async def test_if_a_contact_counted_once_the_second_would_be_silent(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[bytes] = set()

    async def reported(connection: object, contacts: object) -> set[bytes]:
        found = {one.record.nullifier for one in contacts if one.record.ccm in seen}  # type: ignore[attr-defined]
        seen.update(one.record.ccm for one in contacts)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(report, "_reported", reported)
    assert await declare_first(there) != [True] * 4


async def squat(there: World, *, before: bool) -> bool:
    """A third submits the CCM, before or between the true sides. Whether both of these get signed."""
    left, right = await there.pair()
    third, met = await there.user(), Encounter()
    order = [third, left, right] if before else [left, third, right]
    try:
        for user in order:
            await there.submit(user, met)
        return all([await there.submit(user, met) is not None for user in (left, right)])
    except Refused:
        return False


@pytest.mark.parametrize("before", [True, False])
async def test_a_third_does_not_shut_the_true_sides_out(there: World, before: bool) -> None:
    assert await squat(there, before=before)


@pytest.mark.parametrize("before", [True, False])
async def test_a_server_that_takes_two_only_would_shut_one_out(
    there: World, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    honest = matching.match
    taken: dict[bytes, list[bytes]] = {}

    async def match(database: Database, asked: Sequence[Entry], first: int, last: int) -> list[int | Refused | None]:
        results = await honest(database, asked, first, last)
        for index, one in enumerate(asked):
            sides = taken.setdefault(one.ccm, [])
            sides.append(one.nullifier)
            if one.nullifier not in list(dict.fromkeys(sides))[:2]:
                results[index] = Refused("this contact has its two sides already")
        return results

    monkeypatch.setattr(matching, "match", match)
    assert not await squat(there, before=before)


# --- not prevented: a third moves the signed day by one ---


async def published_days(there: World, *, third: bool) -> tuple[int, ...]:
    """The days published when a contact of the first infectious day, which is today, is declared."""
    left, right = await there.pair()
    met, today = Encounter(), there.clock.today
    await there.submit(left, met)
    if third:  # the proxy that `left` drew knows the CCM; it has a credential as any user has
        await there.submit(await there.user(), met, today - 1)
        assert await there.submit(left, met) is not None, "signed for the third"
    await there.submit(right, met)
    record = await there.submit(left, met)
    assert record is not None
    return (await there.declare(left, await there.code(today + 2), [(met, record)])).days


async def test_a_third_can_have_the_first_infectious_day_taken_for_the_one_before(there: World) -> None:
    assert await published_days(there, third=False) == (there.clock.today,)
    gone = await published_days(there, third=True)
    assert gone == (), "if this fails, a third moves no signed day: say so in docs/threat-model.md"
