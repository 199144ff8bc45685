"""Every key is replaced under real agents: those that are there, and one that is away; nobody is stranded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent import account
from agent.kept import State
from backend_stub.authority import chains, join, rotation
from backend_stub.authority import service as authority
from backend_stub.keyring import keys
from protocol import messages
from protocol.encounter import day_of
from tests.end_to_end.people import DAY, Person, signed, world
from tests.end_to_end.people import join as join_world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from backend_stub.authority.service import Authority
    from tests.end_to_end.people import World

    Rotate = Callable[[Authority, Path], Awaitable[object]]


async def _server(office: Authority, folder: Path) -> object:
    public = rotation.new_server_secret(office.curve, office.random, folder / "server")
    return await rotation.rotate_server(office, public)


ROTATIONS: dict[str, Rotate] = {
    "issuer": lambda office, _: rotation.rotate_issuer(office),
    "server": _server,
    "group": lambda office, folder: rotation.rotate_group(office, folder, "group-1"),
    "proxy": lambda office, folder: rotation.rotate_proxy(office, folder, "group-2-1"),
    "publication": lambda office, _: rotation.rotate_publication(office),
    "seal": lambda office, _: rotation.rotate_seal(office),
    "chain": lambda office, _: rotation.rotate_chain(office),
}


async def _rotate(made: World, name: str) -> None:
    folder = made.folder / "backend"
    async with authority.opened(folder / "authority", made.clock) as office:
        await ROTATIONS[name](office, folder)


async def _let_pass(made: World, seconds: float) -> None:
    """Time passes; the parts of the backend look at the parameters meanwhile."""
    made.clock.jump(seconds)
    await asyncio.sleep(0.3)


async def _sign(made: World, *people: Person) -> None:
    """Look at the backend until all that these people met lately is signed."""
    for _ in range(12):
        for person in people:
            await person.sync()
        since = made.clock.now() - 2 * DAY
        lately = [one for person in people for one in person.store.encounters() if one.last > since]
        if all(one.state is State.SIGNED for one in lately):
            return
        await _let_pass(made, 8000)
    problems = [(person.name, one.state, one.problem) for person in people for one in person.store.encounters()]
    pytest.fail(f"not signed: {problems}")


@pytest.mark.parametrize("name", list(ROTATIONS))
async def test_contacts_around_a_new_key(tmp_path: Path, name: str) -> None:
    """One contact signed before, one submitted by one side only, one made after; then one of the two declares all."""
    async with world(tmp_path, ["ada", "ben", "away"]) as made:
        ada, ben, away = made.people.values()
        made.meet(ada, away)
        made.meet(ada, ben)
        await ada.sync()
        await ben.sync()
        before = {one.problem for one in ada.store.encounters()}
        assert State.PENDING in ada.states(), before
        await _rotate(made, name)
        await _let_pass(made, 2 * 3600)
        made.meet(ada, ben)
        await _sign(made, ada, ben, away)
        receipt = await ada.declare(await made.code())
        assert receipt.accepted
        await made.publish()
        for person in (ben, away):
            await person.sync()
            assert person.warned, person.name


async def test_all_keys_at_once_twice(tmp_path: Path) -> None:
    """Also again before anybody looked; the old secrets are gone, but for those that something is still opened with."""
    async with world(tmp_path, ["ada", "ben"]) as made:
        ada, ben = made.people.values()
        made.meet(ada, ben)
        await _sign(made, ada, ben)
        for name in ROTATIONS:
            await _rotate(made, name)
        await _let_pass(made, DAY)
        for name in ROTATIONS:
            if name != "group":
                await _rotate(made, name)
        await _let_pass(made, 2 * 3600)
        made.meet(ada, ben)
        await _sign(made, ada, ben)
        servers = {messages.decode(messages.ContactRecord, one.record or b"").server for one in signed(ada)}
        assert servers == {1, 3}
        assert (await ada.declare(await made.code())).accepted
        await made.publish()
        await ben.sync()
        assert ben.warned
        home = made.folder / "backend" / "authority"
        kinds = [file.name.split("-")[0] for file in (home / "keys").iterdir()]
        assert (kinds.count("chain"), kinds.count("publication"), kinds.count("seal")) == (1, 1, 3)


async def test_three_periods_without_a_human_hand(tmp_path: Path) -> None:
    """Credentials are renewed in time by themselves; one report has contacts of two periods."""
    async with world(tmp_path, ["ada", "ben"]) as made:
        ada, ben = made.people.values()
        start = day_of(made.clock.now())
        await _until(made, start + 80, ada, ben)
        await _meet_and_sign(made, ada, ben)  # the next issuer is there, the first still used
        await _until(made, start + 88, ada, ben)
        assert (ada.sync_.account.issuer, ben.sync_.account.issuer) == (2, 2), "renewed before the period ends"
        await _meet_and_sign(made, ada, ben)
        assert ada.sync_.account.issuer_of(day_of(made.clock.now())) == 1, "all use the first as long as they can"
        await _until(made, start + 91, ada, ben)
        await _meet_and_sign(made, ada, ben)
        assert ada.sync_.account.issuer_of(day_of(made.clock.now())) == 2
        receipt = await ada.declare(await made.code())
        assert receipt.accepted
        assert len(ada.store.encounters()) == len([one for one in ada.store.encounters() if one.declared]) >= 3
        await made.publish()
        await ben.sync()
        assert {one.encounter.day - start for one in ben.store.exposures()} >= {91}
        await _until(made, start + 170, ada, ben)
        await _meet_and_sign(made, ada, ben)
        assert ada.sync_.account.issuer == 3
        ben.store.forget_before(start + 170 - 14)  # as a running agent does
        assert (await ben.declare(await made.code())).accepted


async def test_a_device_that_was_away_for_most_of_a_year_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path, ["ada", "ben", "ended"]) as made:
        ada, ben, ended = made.people.values()
        async with authority.opened(made.folder / "backend" / "authority", made.clock) as office:
            membership = ended.store.get(account.MEMBERSHIP, account.Membership)
            assert membership is not None
            await join.end(office, membership.invitation)
        await _until(made, day_of(made.clock.now()) + 300)
        assert ada.sync_.account.issuer == 1
        await _meet_and_sign(made, ada, ben)
        assert ada.sync_.account.issuer > 2
        await ended.sync()
        assert ended.sync_.account.issuer == 1, "a lost device that was reported gets nothing more"


async def test_publications_that_nobody_needs_are_dropped(tmp_path: Path) -> None:
    """Who comes back takes the chain up where it is offered; who joins begins at its head."""
    async with world(tmp_path, ["ada", "ben", "away"]) as made:
        ada, ben, away = made.people.values()
        for number in range(3):
            await _meet_and_sign(made, ada, ben)
            assert (await ada.declare(await made.code())).accepted
            await made.publish()
            while _published(ada) < number:
                await _let_pass(made, 60)
                await ada.sync()
            if number == 0:
                await _rotate(made, "publication")
            await _until(made, day_of(made.clock.now()) + 25, ada, ben)
        async with authority.opened(made.folder / "backend" / "authority", made.clock) as office:
            await chains.forget_publications(office)
            async with office.database.transaction() as connection:
                assert await chains.oldest(connection) == 2, "all but the last are past retention"
        await away.sync()
        assert away.sync_.status().problem == ""
        assert _published(away) == _published(ada) == 2
        late = Person("late", await join_world(made, tmp_path / "late"), made)
        try:
            assert _published(late) == 2
            await late.sync()
            assert late.sync_.status().problem == ""
        finally:
            late.store.close()


def _published(person: Person) -> int:
    head = person.store.get("publications", messages.Head)
    return -1 if head is None else head.number


async def _until(made: World, day: int, *people: Person) -> None:
    """Days pass, on which these people's agents look at the backend; the parameters are renewed in time."""
    while day_of(made.clock.now()) < day:
        left = day - day_of(made.clock.now())
        await _let_pass(made, (10 if left > 20 else min(left, 3)) * DAY)
        async with authority.opened(made.folder / "backend" / "authority", made.clock) as office:
            await chains.renew(office)
        await _let_pass(made, 400)
        for person in people:
            await person.sync()


async def _meet_and_sign(made: World, one: Person, other: Person) -> None:
    made.meet(one, other)
    await _sign(made, one, other)


async def test_secrets_end(tmp_path: Path) -> None:
    async with world(tmp_path, ["ada"]) as made:
        home = made.folder / "backend" / "authority"
        async with authority.opened(home, made.clock) as office:
            old = (await office.current()).trusted.parameters.chain_key
            await rotation.rotate_seal(office)
            await rotation.rotate_chain(office)
            with pytest.raises(Exception, match="cannot be read"):
                keys.read_signing(home, "chain", old)
            assert await rotation.tidy(office) == []
            made.clock.jump(32 * DAY)
            assert await rotation.tidy(office) == ["seal"]
