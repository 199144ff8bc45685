"""From a meeting to a warning, over the real backend: what is completed, when, and what happens when parts are away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.kept import State
from agent.submitting import RETRY_LAST
from protocol.errors import CodeRefused, KeyChanged, Malformed, Misuse, Refused, Unreachable
from tests.end_to_end.people import DAY, NOON, signed, world

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_declaration_warns_whom_it_should_and_nobody_else(tmp_path: Path) -> None:
    async with world(tmp_path, "abc") as made:
        a, b, c = made.people.values()
        made.meet(a, b)
        made.meet(b, c)
        for person in (a, b, c, a, b):
            await person.sync()
            made.clock.jump(3700)
        assert {state for person in (a, b, c) for state in person.states()} == {State.SIGNED}

        receipt = await a.declare(await made.code())
        assert receipt.accepted
        assert receipt.reference
        await made.publish()
        for person in (a, b, c):
            await person.sync()
        assert (a.warned, b.warned, c.warned) == (False, True, False)
        (risk,) = b.risks()
        assert risk.minutes == pytest.approx(20, abs=0.7)
        assert risk.score == pytest.approx(20, abs=0.7)

        before = b.risks()
        await b.declare(await made.code())
        await made.publish()
        for person in (a, b, c):
            await person.sync()
        assert (a.warned, b.warned, c.warned) == (False, True, True)
        assert b.risks() == before
        assert a.risks() == []


async def test_far_contacts_are_signed_but_neither_declared_nor_warned_of(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b, rssi=-75)
        for person in (a, b, a):
            await person.sync()
            made.clock.jump(3700)
        assert signed(a)
        with pytest.raises(Refused, match="no contact to declare"):
            await a.declare(await made.code())


async def test_the_other_side_comes_two_days_later(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b, minutes=10)
        for _ in range(6):
            await a.sync()
            assert set(a.states()) == {State.PENDING}
            made.clock.jump(DAY / 3)
        assert made.clock.now() > NOON + 2 * DAY
        await b.sync()
        assert set(b.states()) == {State.SIGNED}
        made.clock.jump(DAY / 2)
        await a.sync()
        assert set(a.states()) == {State.SIGNED}
        assert {one.record is not None for one in a.store.encounters()} == {True}


async def test_a_lone_contact_ends_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b, minutes=10)
        asked = 0
        while set(a.states()) != {State.ENDED}:
            progress = await a.sync()
            asked += progress.submitted
            assert progress.failed == 0
            assert a.sync_.status().problem == ""
            made.clock.jump(DAY / 2)
        assert asked <= 2 * 10
        assert made.clock.now() < NOON + 6 * DAY
        made.clock.jump(DAY)
        assert (await a.sync()).submitted == 0
        assert not [record for record in caplog.records if record.name.startswith("agent") and record.levelno >= 30]


@pytest.mark.parametrize("part", ["server", "proxies", "authority"])
async def test_a_part_away_loses_nothing(tmp_path: Path, part: str) -> None:
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b)
        parts = {"proxies": list(made.backend.proxies)}.get(part, [part])
        for name in parts:
            await made.backend.stop(name)
        for person in (a, b):
            progress = await person.sync()
            if part != "authority":
                assert progress.failed == len(person.states())
                assert set(person.states()) == {State.WAITING}
                assert all(one.problem and one.due > made.clock.now() for one in person.store.encounters())
                assert (await person.sync_.step()).submitted == 0, "it waits before it tries again"
            if part != "server":
                status = person.sync_.status()
                assert status.failures == 1
                assert status.problem
                assert status.refresh_at > made.clock.now()
        for name in parts:
            await made.backend.start(name)
        for person in (a, b, a):
            made.clock.jump(RETRY_LAST)
            await person.sync()
        assert set(a.states()) | set(b.states()) == {State.SIGNED}
        assert a.sync_.status().problem == ""
        assert len({one.secret for one in a.store.encounters()}) == len(a.states())


async def test_a_declaration_survives_an_absent_authority(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b)
        for person in (a, b, a):
            await person.sync()
            made.clock.jump(3700)
        code = await made.code()
        await made.backend.stop("authority")
        with pytest.raises(Unreachable, match="kept"):
            await a.declare(code)
        assert a.reporter.outstanding(code) is not None
        await made.backend.start("authority")
        first = await a.declare(code)
        assert first.accepted
        assert a.reporter.outstanding(code) is None
        await made.publish()
        await b.sync()
        assert b.warned


async def test_codes_that_cannot_be_used_are_told_apart(tmp_path: Path) -> None:
    async with world(tmp_path, "abc") as made:
        a, b, c = made.people.values()
        made.meet(a, b)
        made.meet(a, c)
        for person in (a, b, c, a, b, c):
            await person.sync()
            made.clock.jump(3700)
        with pytest.raises(Malformed, match="16 letters"):
            await a.declare("ABCD")
        with pytest.raises(CodeRefused) as unknown:
            await a.declare("AAAA-BBBB-CCCC-DDDD")
        expired = await made.code(valid_days=1)
        used = await made.code(valid_days=5)
        await b.declare(used)
        with pytest.raises(CodeRefused) as spent:
            await a.declare(used)
        made.clock.jump(1.5 * DAY)
        with pytest.raises(CodeRefused) as late:
            await a.declare(expired)
        texts = {unknown.value.text, spent.value.text, late.value.text}
        assert len(texts) == 3
        assert all(one.receipt and not one.report for one in a.store.reports()), "answered, and kept to be told only"
        good = await a.declare(await made.code())
        assert good.accepted, "refused codes cost nothing else"


async def test_an_authority_with_other_keys_is_not_followed(tmp_path: Path) -> None:
    from backend_stub import settings
    from backend_stub.operations.founding import Plan, found
    from backend_stub.operations.running import running

    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b)
        await made.backend.stop_all()
        port = settings.read_part(tmp_path / "backend" / "authority").port
        clock = made.clock
        # Somebody else on the very same addresses.
        await found(tmp_path / "other", Plan(port=0, tls=False), clock=clock)
        for part in made.backend.parts:
            own = settings.read_part(tmp_path / "backend" / part).port
            other = settings.read_part(tmp_path / "other" / part).port
            for path in (tmp_path / "other").rglob("settings.toml"):
                path.write_text(path.read_text().replace(str(other), str(own)))
        assert settings.read_part(tmp_path / "other" / "authority").port == port
        async with running(tmp_path / "other", clock):
            await a.sync()
            status = a.sync_.status()
            assert "not those that this device followed" in status.problem
            assert a.sync_.account.trusted.head.number == 0
            assert set(a.states()) == {State.WAITING}


async def test_joining_again_is_refused_and_an_invitation_serves_once(tmp_path: Path) -> None:
    import random

    from agent import account
    from agent.store import create_store
    from protocol.curve import open_curve

    async with world(tmp_path, "a") as made:
        a = made.people["a"]
        member = a.store.get(account.MEMBERSHIP, account.Membership)
        assert member is not None
        followed = await account.fetch_authority(made.backend.authority)
        chance, now = random.SystemRandom(), made.clock.now()
        with pytest.raises(Misuse, match="joined already"):
            await account.join(open_curve(), chance, a.store, member.url, member.invitation, followed, now)
        store = create_store(tmp_path / "thief", "file", chance.randbytes)
        with pytest.raises(CodeRefused):
            await account.join(open_curve(), chance, store, member.url, member.invitation, followed, now)
        later = followed[-1][0].parameters.valid_until + 1
        with pytest.raises(KeyChanged, match="have run out"):
            await account.join(open_curve(), chance, store, member.url, "ANOTHER", followed, later)
        store.close()
