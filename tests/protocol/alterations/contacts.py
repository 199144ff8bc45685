"""Alterations of submissions, partial signatures and contact records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace as altered

from protocol import contact, credential, encounter, parameters
from protocol.errors import Malformed, NotMine, Refused
from protocol.messages import ContactRecord, Partial, Submission
from tests.protocol.alterations import alteration, refused
from tests.support import DAY, OTHER_ISSUER, OTHER_SERVER, SERVER, TICKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import Contact, World

NO_CREDENTIAL = "proof of a valid credential does not hold"
WRONG_PARTIAL = "partial signature is wrong"
NOT_SIGNED = "not signed as it must be"
ANOTHERS = "another contact's record"


# --- submissions: what proxy and server check ---


def _take(world: World, submission: Submission) -> None:
    issuer = world.keys.issuer(submission.issuer)
    statement = contact.submission_statement(
        world.curve, issuer, submission.ccm, submission.day, contact.ticket_of(submission)
    )
    credential.verify(world.curve, world.random, statement, submission.show)


def _submission(**change: Callable[[World], object]) -> Callable[[World], None]:
    return lambda world: _take(
        world,
        altered(world.contacts[0].submission, **{field: value(world) for field, value in change.items()}),
    )


for _field, _error, _text, _name, _value in (
    ("issuer", NotMine, "no longer in use", "unknown", lambda world: 99),
    ("issuer", Refused, NO_CREDENTIAL, "of another period", lambda world: OTHER_ISSUER),
    ("ccm", Refused, NO_CREDENTIAL, "of another contact", lambda world: world.contacts[1].submission.ccm),
    ("day", Refused, NO_CREDENTIAL, "later", lambda world: DAY + 1),
    ("day", Refused, NO_CREDENTIAL, "earlier", lambda world: DAY - 1),
    ("sent_day", Refused, NO_CREDENTIAL, "later", lambda world: DAY + 1),
    ("ticket", Refused, NO_CREDENTIAL, "another", lambda world: TICKET.number + 1),
    ("show", Refused, NO_CREDENTIAL, "of another contact", lambda world: world.contacts[1].submission.show),
    ("show", Refused, NO_CREDENTIAL, "of a proxy", lambda world: _shown_by_a_proxy(world)),
):
    alteration(Submission, _field, _error, _text, _name, _submission(**{_field: _value}))


def _shown_by_a_proxy(world: World) -> object:
    one, own = world.contacts[0].submission, world.proxies["north"].credential
    key = world.groups["north"].key
    return contact.submit(world.curve, world.random, own, key, one.issuer, one.ccm, one.day, TICKET).show


@refused(Submission, "show", Malformed, "exactly two nullifiers")
def nullifier_missing(world: World) -> None:
    submission = world.contacts[0].submission
    contact.nullifier_of(altered(submission, show=altered(submission.show, nullifiers=submission.show.nullifiers[:1])))


@refused(Submission, "show", Refused, NO_CREDENTIAL)
def nullifier_of_a_ticket_of_another_user(world: World) -> None:
    """Whoever is out of tickets would take another user's."""
    one, other = world.contacts[0].submission, world.others[0].submission
    (own, _), (_, ticket) = one.show.nullifiers, other.show.nullifiers
    (commitment, _), (_, other_commitment) = one.show.commitments, other.show.commitments
    show = altered(one.show, nullifiers=(own, ticket), commitments=(commitment, other_commitment))
    _take(world, altered(one, show=show))


@refused(Submission, "ticket", NotMine, "beyond those that a user may make a day")
def ticket_beyond_the_quota(world: World) -> None:
    parameters.check_ticket(world.parameters, world.parameters.limits.submissions)


# --- partial signatures: what a proxy checks of the server's answer ---


def _check_partial(world: World, partial: Partial) -> None:
    contact.check_partial(world.curve, world.random, world.keys.signers, world.contacts[0].submission, partial)


@refused(Partial, "server", Refused, WRONG_PARTIAL)
def another_server_key(world: World) -> None:
    _check_partial(world, altered(world.contacts[0].partial, server=OTHER_SERVER))


@refused(Partial, "server", NotMine, "not in the parameters")
def unknown_server_key(world: World) -> None:
    _check_partial(world, altered(world.contacts[0].partial, server=9))


def _signed_for(day: int) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        one = world.contacts[0].submission
        nullifier = contact.nullifier_of(one)
        signature = contact.sign_partially(world.curve, world.server, one.ccm, day, nullifier)
        _check_partial(world, Partial(server=SERVER, signature=signature))

    return attempt


for _day in (DAY - 1, DAY + 1):
    alteration(Partial, "signature", Refused, WRONG_PARTIAL, f"for another day, {_day - DAY:+}", _signed_for(_day))


@refused(Partial, "signature", Refused, WRONG_PARTIAL)
def signature_for_another_contact(world: World) -> None:
    _check_partial(world, world.contacts[1].partial)


@refused(Partial, "signature", Refused, WRONG_PARTIAL)
def signature_for_the_other_side(world: World) -> None:
    _check_partial(world, world.others[0].partial)


@refused(Partial, "signature", Refused, WRONG_PARTIAL)
def signature_of_another_server(world: World) -> None:
    secret, _ = contact.new_server_key(world.curve, world.random)
    one = world.contacts[0].submission
    signature = contact.sign_partially(world.curve, secret, one.ccm, DAY, contact.nullifier_of(one))
    _check_partial(world, Partial(server=SERVER, signature=signature))


# --- contact records: what an agent checks of a proxy's answer ---


def _check_record(world: World, record: ContactRecord) -> None:
    keys = world.keys.signers
    contact.check_record(world.curve, world.random, keys, world.contacts[0].submission, record)


def _record(**change: Callable[[World], object]) -> Callable[[World], None]:
    return lambda world: _check_record(
        world, altered(world.contacts[0].record, **{field: value(world) for field, value in change.items()})
    )


def _second(field: str) -> Callable[[World], object]:
    return lambda world: getattr(world.contacts[1].record, field)


for _field, _text, _name, _value in (
    ("ccm", ANOTHERS, "of another contact", _second("ccm")),
    ("nullifier", ANOTHERS, "of another contact", _second("nullifier")),
    ("nullifier", ANOTHERS, "of the other side", lambda world: world.others[0].record.nullifier),
    ("day", "answered for another day", "later", lambda world: DAY + 1),
    ("day", "answered for another day", "earlier", lambda world: DAY - 1),
    ("partial", NOT_SIGNED, "of another contact", _second("partial")),
    ("group", NOT_SIGNED, "another", lambda world: "south"),
    ("server", NOT_SIGNED, "another key", lambda world: OTHER_SERVER),
    ("proof", NOT_SIGNED, "of another contact", _second("proof")),
    ("proof", NOT_SIGNED, "of the other side", lambda world: world.others[0].record.proof),
):
    alteration(ContactRecord, _field, Refused, _text, _name, _record(**{_field: _value}))


alteration(
    ContactRecord, "group", NotMine, "not among the authority's", "unknown", _record(group=lambda world: "nowhere")
)
alteration(ContactRecord, "server", NotMine, "not in the parameters", "unknown", _record(server=lambda world: 9))


def signed_by_the_proxy(world: World, one: Contact, partial: Partial, group: str = "north") -> ContactRecord:
    """The record that a dishonest proxy makes of any partial signature whatever."""
    own = world.proxies[group].credential
    return contact.extend(world.random, own, group, world.groups[group].key, one.submission, partial)


@refused(ContactRecord, "day", Refused, "answered for another day")
def day_altered_and_signed_by_server_and_proxy(world: World) -> None:
    _check_record(world, world.contact(world.alice, world.secrets[0], day=DAY - 1).record)


@refused(ContactRecord, "partial", Refused, NOT_SIGNED)
def partial_altered_and_signed_by_the_proxy(world: World) -> None:
    """A lone side: the proxy would make a contact without the server."""
    _check_record(world, signed_by_the_proxy(world, world.contacts[0], world.contacts[1].partial))


@refused(ContactRecord, "proof", Refused, NOT_SIGNED)
def proof_of_the_other_group(world: World) -> None:
    """A proxy of one group signs in the name of another."""
    one = world.contacts[0]
    record = signed_by_the_proxy(world, one, one.partial, "south")
    _check_record(world, altered(record, group="north"))


@refused(ContactRecord, "ccm", Refused, ANOTHERS)
def whole_record_of_another_contact(world: World) -> None:
    _check_record(world, world.contacts[1].record)


@refused(ContactRecord, "ccm", Refused, NOT_SIGNED)
def ccm_swapped_in_submission_and_record(world: World) -> None:
    """Even an agent that forgot what it asked for would see that PS is for another CCM."""
    ccm = encounter.ccm_of(world.secrets[2])
    one = world.contacts[0]
    record, submission = altered(one.record, ccm=ccm), altered(one.submission, ccm=ccm)
    contact.check_record(world.curve, world.random, world.keys.signers, submission, record)
