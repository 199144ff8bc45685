"""Contact records: signed for two sides, taken apart and mixed."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import fields
from msgspec.structs import replace as altered

from protocol import batch, contact, credential, encounter, messages
from protocol.errors import NotMine, Refused
from protocol.messages import ContactRecord
from tests.support import DAY, ISSUER, OTHER_SERVER, SERVER, TICKET

if TYPE_CHECKING:
    from tests.support import Contact, Member, World

FIELDS = [entry.name for entry in fields(ContactRecord)]
MIXES = [set(chosen) for size in range(1, len(FIELDS)) for chosen in combinations(FIELDS, size)]


def _holds(world: World, record: ContactRecord) -> bool:
    return batch.holds(world.curve, world.random, list(contact.record_claims(world.curve, world.keys.signers, record)))


@pytest.fixture(scope="session")
def unlike(world: World) -> Contact:
    """A contact that differs from alice's first in every field of its record."""
    one = world.contact(world.bob, world.random(32), day=DAY - 1, group="south", server=OTHER_SERVER)
    assert all(getattr(one.record, field) != getattr(world.contacts[0].record, field) for field in FIELDS)
    assert _holds(world, one.record)
    return one


def test_parts_of_two_valid_records_make_no_third(world: World, unlike: Contact) -> None:
    # With the slow maker: each part by itself, and all but one; with the fast one: every mix there is.
    sizes = {1, len(FIELDS) - 1} if world.curve.name == "py_ecc" else set(range(1, len(FIELDS)))
    for taken in MIXES:
        if len(taken) in sizes:
            mixed = altered(world.contacts[0].record, **{field: getattr(unlike.record, field) for field in taken})
            assert not _holds(world, mixed), taken


SIGNED_BY = {
    "ccm": {"server", "proxy"},
    "day": {"server", "proxy"},
    "nullifier": {"server", "proxy"},
    "server": {"server"},
    "partial": {"server", "proxy"},
    "group": {"proxy"},
    "proof": {"proxy"},
}


@pytest.mark.parametrize("field", FIELDS)
def test_server_and_proxy_each_sign_for_every_part(world: World, unlike: Contact, field: str) -> None:
    """Neither relies on the other: what one of them would let pass, the other's signature still refuses."""
    record = altered(world.contacts[0].record, **{field: getattr(unlike.record, field)})
    claims = contact.record_claims(world.curve, world.keys.signers, record)
    failing = batch.failing(world.curve, world.random, list(claims))
    assert {("server", "proxy")[index] for index in failing} == SIGNED_BY[field]


def test_a_group_signs_under_its_name(world: World) -> None:
    """Two names for one key: a signature for the one is none for the other."""
    key = world.groups["north"].key
    keys = contact.SignerKeys(world.keys.signers.servers, {"north": key, "northern": key})
    record = altered(world.contacts[0].record, group="northern")
    _, proof = contact.record_claims(world.curve, keys, record)
    assert not batch.holds(world.curve, world.random, [proof])


def test_a_partial_signature_is_always_the_same(world: World) -> None:
    one = world.contacts[0]
    arguments = one.record.ccm, one.record.day, one.record.nullifier
    assert contact.sign_partially(world.curve, world.server, *arguments) == one.record.partial


def test_a_record_is_small(world: World) -> None:
    assert len(messages.encode(world.contacts[0].record)) < 512
    assert len(messages.encode(world.contacts[0].submission)) < 640


def test_one_user_on_both_sides_has_one_nullifier(world: World) -> None:
    one = world.contacts[0].submission
    again = contact.submit(
        world.curve, world.random, world.alice.credential, world.users.key, ISSUER, one.ccm, DAY - 1, TICKET
    )
    assert contact.nullifier_of(again) == contact.nullifier_of(one)
    statement = contact.submission_statement(world.curve, world.users.key, one.ccm, DAY - 1, TICKET)
    credential.verify(world.curve, world.random, statement, again.show)


def test_the_two_sides_of_a_contact_share_only_the_ccm(world: World) -> None:
    one, other = world.contacts[0].record, world.others[0].record
    assert one.ccm == other.ccm == encounter.ccm_of(world.secrets[0])
    assert one.nullifier != other.nullifier
    assert one.partial != other.partial


def test_a_submission_says_its_ccm_day_and_ticket(world: World) -> None:
    told = (
        (bytes(32), DAY, TICKET),
        (b"\1" * 32, DAY, TICKET),
        (bytes(32), DAY - 1, TICKET),
        (bytes(32), DAY, replace(TICKET, day=DAY + 1)),
        (bytes(32), DAY, replace(TICKET, number=TICKET.number + 1)),
    )
    made = [contact.submission_statement(world.curve, world.users.key, *one) for one in told]
    assert len({statement.message for statement in made}) == len(made)
    assert made[0].bases[0] != made[1].bases[0]
    assert made[0].bases == made[2].bases, "a second day for one contact shows the same nullifier"
    assert len({one.bases[1].encode() for one in (made[0], *made[3:])}) == 3


def test_only_the_same_user_on_the_same_ticket_shows_the_same(world: World) -> None:
    """So two submissions of one user cannot be told to be so, unless they are on one ticket."""

    def shown(
        user: Member, ccm: bytes = bytes(32), day: int = DAY, ticket: contact.Ticket = TICKET
    ) -> tuple[bytes, bytes]:
        own, key = user.credential, world.users.key
        return contact.nullifiers_of(contact.submit(world.curve, world.random, own, key, ISSUER, ccm, day, ticket))

    own, quota = shown(world.alice)
    assert shown(world.alice, b"\1" * 32)[1] == shown(world.alice, day=DAY - 1)[1] == quota, "whatever it is used for"
    others = (
        shown(world.alice, ticket=replace(TICKET, number=TICKET.number + 1)),
        shown(world.alice, ticket=replace(TICKET, day=DAY + 1)),
        shown(world.bob),
    )
    assert len({quota, own, *(one[1] for one in others)}) == 5
    assert [one[0] == own for one in others] == [True, True, False], "and the contact's own does not depend on it"


def test_a_lone_server_makes_no_record(world: World) -> None:
    """A dishonest server can sign for an invented nullifier; without a proxy's proof that is worth nothing."""
    ccm, nullifier = bytes(32), world.curve.g1.encode()
    signature = contact.sign_partially(world.curve, world.server, ccm, DAY, nullifier)
    invented = altered(world.contacts[0].record, ccm=ccm, nullifier=nullifier, partial=signature)
    partial, proof = contact.record_claims(world.curve, world.keys.signers, invented)
    assert batch.holds(world.curve, world.random, [partial])
    assert not batch.holds(world.curve, world.random, [proof])


def test_a_group_that_left_is_named_so(world: World) -> None:
    keys = contact.SignerKeys(world.keys.signers.servers, {"south": world.groups["south"].key})
    with pytest.raises(NotMine, match="not among the authority's; fetch the parameters"):
        contact.record_claims(world.curve, keys, world.contacts[0].record)


def test_a_server_key_that_is_not_known_yet_is_named_so(world: World) -> None:
    """Not refused for good: the device fetches the parameters anew and asks again."""
    keys = contact.SignerKeys({OTHER_SERVER: world.keys.signers.servers[OTHER_SERVER]}, world.keys.signers.groups)
    with pytest.raises(NotMine, match="server's key of this record is not in the parameters"):
        contact.record_claims(world.curve, keys, world.contacts[0].record)


@pytest.mark.parametrize("name", [SERVER, "north"])
def test_a_key_that_was_replaced_signs_for_no_later_day(world: World, name: int | str) -> None:
    signers, record = world.keys.signers, world.contacts[0].record
    over = contact.SignerKeys(signers.servers, signers.groups, {name: DAY - 1})
    with pytest.raises(Refused, match="was replaced before that day"):
        contact.record_claims(world.curve, over, record)
    last = contact.SignerKeys(signers.servers, signers.groups, {name: DAY})
    assert batch.holds(world.curve, world.random, list(contact.record_claims(world.curve, last, record)))
