"""Every field of every message, altered: refused by the check that is meant for it, with an error that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import fields

from protocol import credential, messages, parameters
from protocol.messages import Message
from tests.protocol.alterations import EXCUSED, TABLE, Alteration, chains, contacts, credentials, reports
from tests.protocol.dishonest import failing_equations, receive

if TYPE_CHECKING:
    from tests.support import World

SUBJECTS = (credentials, contacts, reports, chains)
ALL = [entry for entries in TABLE.values() for entry in entries]


def _all_fields() -> set[tuple[type[Message], str]]:
    kinds = [kind for kind in Message.__subclasses__() if kind.__module__ == messages.__name__]
    return {(kind, entry.name) for kind in kinds for entry in fields(kind)}


def test_every_field_has_an_alteration_or_an_excuse() -> None:
    assert set(TABLE) | set(EXCUSED) == _all_fields()
    assert not set(TABLE) & set(EXCUSED)
    assert len({entry.name for entry in ALL}) == len(ALL)


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_an_alteration_is_refused_by_its_check(world: World, entry: Alteration) -> None:
    with pytest.raises(entry.error) as refusal:
        entry.attempt(world)
    assert type(refusal.value) is entry.error
    assert entry.text in str(refusal.value)
    assert_nothing_secret_in(world, str(refusal.value))


def assert_nothing_secret_in(world: World, text: str) -> None:
    secrets = [member.credential.secret for member in (world.alice, world.bob, world.removed)]
    secrets += [world.users.secret.x, world.users.secret.y, world.server.y]
    hidden = [str(number) for number in secrets] + [f"{number:x}" for number in secrets]
    hidden += [secret.hex() for secret in (*world.secrets, world.body.reply_key)]
    hidden += [repr(secret)[2:-1] for secret in (*world.secrets, world.body.reply_key)]
    assert not [one for one in (*hidden, world.body.code) if one in text]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (kind, field)
        for kind in credentials.SHOWINGS
        for field in credentials.CHANGES
        if kind != "extension" or field not in {"nullifiers", "commitments"}  # an extension has no bases
    ],
)
def test_a_show_proven_anew_breaks_just_the_equations_meant_for_its_part(world: World, kind: str, field: str) -> None:
    whole, statement, shown = credentials.proven_anew(world, kind, field)
    claim = credential.show_claim(world.curve, statement, shown)
    names = ["secret", *("base" for _ in whole.statement.bases), "pairing"]
    broken = {names[index] for index in failing_equations(world, claim)}
    assert broken == credentials.CHANGES[field][1] & set(names)


def test_what_is_not_altered_passes(world: World) -> None:
    for showing in credentials.SHOWINGS.values():
        whole = showing(world)
        whole.check(whole.shown)
    receive(world, world.sealed(world.report))
    trusted = chains.advance(world, parameters.sign(world.chain_key, chains.next_parameters(world)))
    assert trusted.head.number == 1
