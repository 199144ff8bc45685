"""A person moves to another device between a meeting and its signature; contacts of before go on there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent import moving
from agent.kept import State
from protocol.errors import Moved
from tests.end_to_end.people import Person, signed, world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.people import World

WORDS = "correct horse battery staple"


def moved(person: Person, made: World, folder: Path) -> Person:
    """The person with a new device."""
    file = folder / "moved.spot"
    moving.export(person.store, file, WORDS, made.clock.now(), os.urandom)
    return Person(person.name, moving.take_in(file, folder / "new", "file", WORDS, os.urandom), made)


async def test_contacts_of_before_the_move_are_signed_declared_and_matched_after_it(tmp_path: Path) -> None:
    async with world(tmp_path, "abc") as made:
        a, b, c = made.people.values()
        made.meet(a, b)
        made.meet(a, c)
        await a.sync()
        assert set(a.states()) == {State.PENDING}
        new = moved(a, made, tmp_path)
        try:
            with pytest.raises(Moved, match="go on there"):
                await a.sync()
            with pytest.raises(Moved):
                await a.declare(await made.code())

            for person in (b, c, new):
                await person.sync()
                made.clock.jump(3700)
            assert len(signed(new)) == len(new.states()) >= 2
            assert set(a.states()) == {State.PENDING}, "the old device did nothing"

            await c.declare(await made.code())
            await made.publish()
            await new.sync()
            assert new.warned, "of somebody met before"
            assert (await new.declare(await made.code())).accepted
            await made.publish()
            await b.sync()
            assert b.warned
        finally:
            new.store.close()
