"""Alterations of declared contacts, reports, their seal and the receipt; all but the last sent to an authority."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import fields
from msgspec.structs import replace as altered

from protocol import declaration, messages
from protocol.declaration import Reason
from protocol.errors import Malformed, NotMine, Refused
from protocol.messages import DeclaredContact, Receipt, Report, ReportBody, SealedReport
from tests.protocol.alterations import alteration, refused
from tests.protocol.alterations.contacts import signed_by_the_proxy
from tests.protocol.dishonest import declare, receive
from tests.support import DAY, OTHER_ISSUER, OTHER_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.messages import ContactRecord
    from tests.support import World

NOT_OWNED = "do not all belong to the one who declares"
NO_CREDENTIAL = "proof of a valid credential does not hold"
SEALED_FOR_ANOTHER = "sealed for another key or was altered"


# --- one contact of the list: ownership is proven anew, since the declarer is the attacker ---


def _first(**change: Callable[[World], object]) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        one, *rest = world.body.contacts
        worse = altered(one, **{field: value(world) for field, value in change.items()})
        declare(world, world.body_of(worse, *rest))

    return attempt


def _first_record(change: Callable[[World, ContactRecord], ContactRecord]) -> Callable[[World], None]:
    return _first(record=lambda world: change(world, world.contacts[0].record))


for _field, _reason, _name, _value in (
    ("secret", Reason.CCM, "of another contact", lambda world: world.secrets[2]),
    ("role", Reason.ROLE, "two", lambda world: 2),
    ("role", Reason.ROLE, "largest", lambda world: 255),
    ("record", Reason.CCM, "of another contact", lambda world: world.contacts[2].record),
    ("record", Reason.REMOVED, "by a removed proxy", None),
):
    if _value is not None:
        alteration(DeclaredContact, _field, Refused, _reason.text, _name, _first(**{_field: _value}))


@refused(DeclaredContact, "record", Refused, f"contact 1: {Reason.REMOVED.text}")
def record_by_a_removed_proxy(world: World) -> None:
    declare(world, world.body_of(world.contacts[0].declared, world.by_removed.declared))


def _with_day(day: int) -> Callable[[World, ContactRecord], ContactRecord]:
    return lambda world, record: altered(record, day=day)


for _name, _reason, _change in (
    ("day in the future", Reason.DAY, _with_day(DAY + 1)),
    ("day too long ago", Reason.DAY, _with_day(DAY - 15)),
    ("day laundered", Reason.PARTIAL, _with_day(DAY - 1)),
    ("group unknown", Reason.GROUP, lambda world, record: altered(record, group="nowhere")),
    ("server key unknown", Reason.SERVER, lambda world, record: altered(record, server=9)),
    ("server key another", Reason.PARTIAL, lambda world, record: altered(record, server=OTHER_SERVER)),
    ("group another", Reason.PROOF, lambda world, record: altered(record, group="south")),
    (
        "partial of another contact",
        Reason.PARTIAL,
        lambda world, record: altered(record, partial=world.contacts[2].record.partial),
    ),
    (
        "partial of another contact, signed by the proxy",
        Reason.PARTIAL,
        lambda world, record: signed_by_the_proxy(world, world.contacts[0], world.contacts[2].partial),
    ),
    (
        "proof of another contact",
        Reason.PROOF,
        lambda world, record: altered(record, proof=world.contacts[2].record.proof),
    ),
    (
        "nullifier of another contact",
        Reason.PARTIAL,
        lambda world, record: altered(record, nullifier=world.contacts[2].record.nullifier),
    ),
    (
        "nullifier of another in the list",
        Reason.DUPLICATE_NULLIFIER,
        lambda world, record: altered(record, nullifier=world.contacts[1].record.nullifier),
    ),
):
    alteration(DeclaredContact, "record", Refused, f"contact 0: {_reason.text}", _name, _first_record(_change))


# --- the list ---


def _old_proof(**change: Callable[[World], object]) -> Callable[[World], None]:
    """The body altered and sealed anew, around the proof of the body that it was."""

    def attempt(world: World) -> None:
        body = altered(world.body, **{field: value(world) for field, value in change.items()})
        receive(world, world.sealed(altered(world.report, body=messages.encode(body))))

    return attempt


for _field, _error, _text, _name, _value in (
    ("code", Refused, NOT_OWNED, "of somebody else", lambda world: declaration.new_code(world.random)),
    ("code", Malformed, "16 letters and digits", "cut", lambda world: world.body.code[:-1]),
    ("reply_key", Refused, NOT_OWNED, "of a proxy", lambda world: world.random(32)),
    ("issuer", Refused, NOT_OWNED, "another", lambda world: OTHER_ISSUER),
    ("issuer", NotMine, "no longer in use", "unknown", lambda world: 99),
    ("contacts", Refused, NOT_OWNED, "reordered", lambda world: world.body.contacts[::-1]),
    ("contacts", Refused, NOT_OWNED, "truncated", lambda world: world.body.contacts[:1]),
    (
        "contacts",
        Refused,
        NOT_OWNED,
        "lengthened",
        lambda world: (*world.body.contacts, world.contacts[2].declared),
    ),
    (
        "contacts",
        Refused,
        NOT_OWNED,
        "roles turned round",
        lambda world: tuple(altered(one, role=1) for one in world.body.contacts),
    ),
):
    alteration(ReportBody, _field, _error, _text, f"{_name}, old proof", _old_proof(**{_field: _value}))


@refused(ReportBody, "issuer", Refused, NO_CREDENTIAL)
def issuer_another_and_proven_anew(world: World) -> None:
    body = altered(world.body, issuer=OTHER_ISSUER)
    own, key = world.alice.credential, world.other_users.key
    report = declaration.make_report(world.curve, world.random, own, key, body, world.parameters_hash)
    receive(world, world.sealed(report))


@refused(ReportBody, "contacts", Refused, NOT_OWNED)
def records_of_two_users(world: World) -> None:
    declare(world, world.body_of(world.contacts[0].declared, world.others[1].declared))


@refused(ReportBody, "contacts", Refused, NOT_OWNED)
def records_of_somebody_else(world: World) -> None:
    declare(world, world.body_of(*(one.declared for one in world.others)))


@refused(ReportBody, "contacts", Refused, Reason.DUPLICATE_CCM.text)
def both_sides_of_one_contact(world: World) -> None:
    declare(world, world.body_of(world.contacts[0].declared, world.others[0].declared))


@refused(ReportBody, "contacts", Refused, Reason.DUPLICATE_CCM.text)
def one_contact_twice(world: World) -> None:
    one = world.contacts[0].declared
    declare(world, world.body_of(one, altered(one, role=1)))


@refused(ReportBody, "contacts", Refused, "1 to 100 contacts")
def too_many(world: World) -> None:
    contacts = tuple(world.contacts[0].declared for _ in range(101))
    receive(world, world.sealed(altered(world.report, body=messages.encode(world.body_of(*contacts)))))


@refused(ReportBody, "contacts", Refused, "1 to 100 contacts")
def none_at_all(world: World) -> None:
    receive(world, world.sealed(altered(world.report, body=messages.encode(world.body_of()))))


# --- the report and its seal ---


@refused(Report, "body", Refused, NOT_OWNED)
def body_of_another_report(world: World) -> None:
    body = messages.encode(world.body_of(world.contacts[2].declared))
    receive(world, world.sealed(altered(world.report, body=body)))


@refused(Report, "ownership", Refused, NOT_OWNED)
def ownership_of_another_report(world: World) -> None:
    other = world.report_of(world.body_of(*world.body.contacts))
    receive(world, world.sealed(altered(world.report, ownership=other.ownership)))


@refused(Report, "ownership", Refused, NOT_OWNED)
def ownership_by_another_user(world: World) -> None:
    receive(world, world.sealed(world.report_of(world.body, world.bob)))


def _sealed(change: Callable[[SealedReport], SealedReport]) -> Callable[[World], None]:
    return lambda world: receive(world, change(world.sealed(world.report)))


def _flipped(at: int) -> Callable[[SealedReport], SealedReport]:
    def change(sealed: SealedReport) -> SealedReport:
        data = bytearray(sealed.sealed)
        data[at] ^= 1
        return altered(sealed, sealed=bytes(data))

    return change


alteration(
    SealedReport,
    "parameters",
    NotMine,
    SEALED_FOR_ANOTHER,
    "others",
    _sealed(lambda sealed: altered(sealed, parameters=bytes(32))),
)
for _name, _sealing in (
    ("first byte", _flipped(0)),
    ("key share of X25519", _flipped(1100)),
    ("middle", _flipped(8000)),
    ("last byte", _flipped(-1)),
    ("cut", lambda sealed: altered(sealed, sealed=sealed.sealed[:-1])),
    ("empty", lambda sealed: altered(sealed, sealed=b"")),
    ("key share of low order", lambda sealed: altered(sealed, sealed=sealed.sealed[:1088] + bytes(2000))),
):
    alteration(SealedReport, "sealed", NotMine, SEALED_FOR_ANOTHER, _name, _sealed(_sealing))


@refused(SealedReport, "sealed", NotMine, SEALED_FOR_ANOTHER)
def sealed_for_another_authority(world: World) -> None:
    other = declaration.read_seal_secret(world.random(96))
    receive(world, declaration.seal(world.report, other.public, world.parameters_hash))


@refused(SealedReport, "parameters", Refused, NOT_OWNED)
def parameters_others_and_sealed_anew(world: World) -> None:
    """A report made by older parameters: the digest that ownership is proven for covers them."""
    receive(world, declaration.seal(world.report, world.seal.public, bytes(32)))


def _padded(padded: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        info = declaration._info(world.seal.public, world.parameters_hash)
        key = declaration._read_seal_key(world.seal.public)
        data = declaration._SUITE.encrypt(padded(messages.encode(world.report)), key, info=info)
        receive(world, SealedReport(parameters=world.parameters_hash, sealed=data))

    return attempt


_SMALLEST = messages.REPORT_CLASSES[0]
for _name, _text, _padding in (
    ("no size class", "size classes", lambda data: messages.pad(data, _SMALLEST + 1)),
    ("padding not zeros", "padding", lambda data: messages.pad(data, _SMALLEST)[:-1] + b"\1"),
    ("padded length too long", "padding", lambda data: b"\xff" * 4 + bytes(_SMALLEST - 4)),
):
    alteration(SealedReport, "sealed", Malformed, _text, _name, _padded(_padding))


# --- the receipt: a proxy that lies to the declarer ---


@refused(Receipt, "accepted", Malformed, "not the authority's")
def receipt_to_another_report(world: World) -> None:
    size = declaration.receipt_size(world.sealed(world.report))
    receipt = Receipt(accepted=True)
    answer = declaration.seal_receipt(world.random, receipt, world.random(32), size)
    declaration.open_receipt(answer, world.body.reply_key)


def _receipt_byte(at: int) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        sealed = bytearray(declaration.seal_receipt(world.random, Receipt(accepted=False), world.body.reply_key, 1052))
        sealed[at] ^= 1
        declaration.open_receipt(bytes(sealed), world.body.reply_key)

    return attempt


# Without the reply key no field can be reached by itself: any byte that carries it is as good as another.
for _at, _entry in enumerate(fields(Receipt)):
    alteration(Receipt, _entry.encode_name, Malformed, "not the authority's", "flipped", _receipt_byte(_at * 100))
