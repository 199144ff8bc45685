"""Attack 25: the other side is to be silenced, by declaring first, or by squatting on the CCM as a third nullifier.

Both sides of a contact may declare, each once: only a nullifier that was declared is refused again, and what is
published names the side. A third who saw the CCM (a proxy) may submit it too; the true sides are signed for all the
same, and each for the day that it submitted, so that nobody moves a contact to a day that does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from backend_stub.authority import report
from backend_stub.server import matching
from protocol import contact
from protocol.encounter import token_of
from protocol.errors import Refused
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend_stub.server.matching import Entry, Result
    from backend_stub.storage.database import Database
    from protocol.contact import ServerSecret
    from protocol.curve import Curve
    from protocol.messages import Submission


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

    async def match(database: Database, asked: Sequence[Entry], first: int, last: int) -> list[Result]:
        results = await honest(database, asked, first, last)
        for index, one in enumerate(asked):
            sides = taken.setdefault(one.ccm, [])
            sides.append(one.nullifier)
            if one.nullifier not in list(dict.fromkeys(sides))[:2]:
                results[index] = Refused("this contact has its two sides already")
        return results

    monkeypatch.setattr(matching, "match", match)
    assert not await squat(there, before=before)


# --- a third, or a dishonest peer, is to move the day ---


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


async def test_a_third_moves_no_day(there: World) -> None:
    assert await published_days(there, third=False) == (there.clock.today,)
    assert await published_days(there, third=True) == (there.clock.today,)


def signing_the_smaller_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of all parts: who is matched is signed for the smaller of the two days, which is fixed then."""
    days: dict[bytes, dict[bytes, int]] = {}
    fixed: dict[tuple[bytes, bytes], int] = {}
    honest = matching.match, contact.sign_partially, contact.answer_claim, contact.extend, contact.check_record

    async def match(database: Database, asked: Sequence[Entry], first: int, last: int) -> list[Result]:
        results = await honest[0](database, asked, first, last)
        for one, result in zip(asked, results, strict=True):
            sides = days.setdefault(one.ccm, {})
            sides[one.nullifier] = one.day
            if result is True:
                fixed.setdefault((one.ccm, one.nullifier), min(day for day in sides.values() if day >= one.day - 1))
        return results

    def moved(one: Submission) -> Submission:
        return replace(one, day=fixed[one.ccm, contact.nullifier_of(one)])

    def sign(curve: Curve, secret: ServerSecret, ccm: bytes, _day: int, nullifier: bytes) -> bytes:
        return honest[1](curve, secret, ccm, fixed[ccm, nullifier], nullifier)

    monkeypatch.setattr(matching, "match", match)
    monkeypatch.setattr(contact, "sign_partially", sign)
    monkeypatch.setattr(contact, "answer_claim", lambda a, b, one, partial: honest[2](a, b, moved(one), partial))
    monkeypatch.setattr(contact, "extend", lambda a, b, c, d, one, partial: honest[3](a, b, c, d, moved(one), partial))
    monkeypatch.setattr(contact, "check_record", lambda a, b, c, one, record: honest[4](a, b, c, moved(one), record))


async def test_with_a_common_day_a_third_could_have_a_contact_not_published(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing_the_smaller_day(monkeypatch)
    assert await published_days(there, third=False) == (there.clock.today,)
    assert await published_days(there, third=True) == ()
