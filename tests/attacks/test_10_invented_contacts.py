"""Attack 10: a contact is invented: with nobody, by one user for both sides, or by two users who never met.

The server signs for two different nullifiers only, and a user has one nullifier a CCM. Two users who invent a contact
together get it signed, **not prevented**: they hold a secret that nobody else holds, and can warn each other only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend_stub.server import matching
from tests.attacks.lone import signing_the_lone
from tests.backend_stub.support import Encounter, World
from tests.end_to_end import people

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from backend_stub.server.matching import Entry, Result
    from backend_stub.storage.database import Database


async def invent_alone(there: World) -> bool:
    """Submit a contact with nobody, again and again. Whether it gets signed."""
    user, invented = await there.user(), Encounter()
    return any([await there.submit(user, invented, proxy=proxy) for proxy in there.proxies * 2])


async def test_a_contact_with_nobody_is_not_signed(there: World) -> None:
    assert not await invent_alone(there)


async def test_a_server_that_signs_for_one_side_would_sign(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    signing_the_lone(monkeypatch)
    assert await invent_alone(there)


async def test_a_server_that_counts_submissions_would_sign_for_one_user_twice(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seen = matching.match, set[bytes]()

    async def match(database: Database, asked: Sequence[Entry], first: int, last: int) -> list[Result]:
        results = await honest(database, asked, first, last)
        counted = [result or one.ccm in seen for one, result in zip(asked, results, strict=True)]
        seen.update(one.ccm for one in asked)
        return counted

    monkeypatch.setattr(matching, "match", match)
    assert await invent_alone(there)


async def test_two_who_invent_a_contact_warn_each_other_only(tmp_path: Path) -> None:
    names = ("liar", "accomplice", "bystander")
    async with people.world(tmp_path, names, settings={"risk.warn_at": 5}) as there:
        liar, accomplice, bystander = there.people.values()
        # They run the agent's own code on frames that never were on the air; the bystander met the liar last week.
        there.meet(liar, accomplice)
        await liar.sync()
        await accomplice.sync()
        there.clock.jump(2 * 3600)
        await liar.sync()
        await liar.declare(await there.code())
        await there.publish()
        for person in (accomplice, bystander):
            await person.sync()
        assert accomplice.warned, "two who collude can do so; if this fails, tell the docs"
        assert not bystander.store.exposures()
