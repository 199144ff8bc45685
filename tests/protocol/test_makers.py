"""Both makers of the curve give the same bytes for the same random source, and read what the other made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol import contact, credential, declaration, messages
from protocol.credential import Holder
from protocol.curve import MAKERS
from tests.support import TICKET, world_of

if TYPE_CHECKING:
    from protocol.messages import Message
    from tests.support import Contact, Issuer, Member, World

NAMES = tuple(MAKERS)


def _issuer(issuer: Issuer) -> list[Message]:
    return [issuer.public]


def _member(member: Member) -> list[Message]:
    return [member.request, member.issued]


def _contact(one: Contact) -> list[Message]:
    return [one.submission, one.partial, one.record, one.declared]


def _everything(world: World) -> list[Message]:
    """All messages of the world, in the order in which they were made."""
    issuers = [world.users, world.other_users, *world.groups.values()]
    members = [world.alice, world.bob, *world.proxies.values(), world.removed]
    contacts = [*world.contacts, *world.others, world.by_removed]
    return [
        *(message for issuer in issuers for message in _issuer(issuer)),
        *(message for member in members for message in _member(member)),
        world.parameters,
        world.genesis,
        *(message for one in contacts for message in _contact(one)),
        world.body,
        world.report,
    ]


def test_the_makers_give_the_same_bytes_for_everything() -> None:
    one, other = ([messages.encode(message) for message in _everything(world_of(name))] for name in NAMES)
    assert one == other
    assert len(one) > 40


def test_the_makers_hold_the_same_secrets() -> None:
    one, other = (world_of(name) for name in NAMES)
    assert one.users.secret == other.users.secret
    assert one.server == other.server
    assert one.alice.credential.secret == other.alice.credential.secret
    assert one.alice.credential.s1.encode() == other.alice.credential.s1.encode()


@pytest.mark.parametrize(("reader", "writer"), [NAMES, NAMES[::-1]])
def test_one_maker_reads_what_the_other_made(reader: str, writer: str) -> None:
    here, there = world_of(reader), world_of(writer)
    key = credential.read_issuer(here.curve, Holder.USER, there.users.public)
    submission = there.contacts[0].submission
    statement = contact.submission_statement(here.curve, key, submission.ccm, submission.day, TICKET)
    credential.verify(here.curve, here.random, statement, submission.show)
    contact.check_record(here.curve, here.random, here.keys.signers, submission, there.contacts[0].record)
    digest = declaration.digest_of(there.report.body, there.parameters_hash)
    declaration.check_ownership(here.curve, here.random, key, there.body.contacts, digest, there.report.ownership)
