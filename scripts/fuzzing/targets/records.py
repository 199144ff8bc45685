"""Points, scalars, and everything that is signed or proven, from bytes: only what an honest party made is accepted.

All proofs and signatures here are ones that libFuzzer could not have made, so whatever is accepted is the honest
message itself, byte for byte. Points are read by both curve makers, which must agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from unittest.mock import Mock

from backend_stub.following.parameters import Known
from backend_stub.proxy.service import Extender
from backend_stub.settings import ProxySettings
from protocol import batch, contact, credential, curve, declaration, messages
from protocol.curve import G1_SIZE, G2_SIZE
from protocol.declaration import Reason
from protocol.errors import Malformed, NotMine, Refused, SpotError
from protocol.messages import (
    Answer,
    ContactRecord,
    DeclaredContact,
    Issued,
    JoinRequest,
    Outcome,
    Outcomes,
    Partial,
    ReportBody,
    Show,
    Submission,
)
from scripts.fuzzing.target import Target, by_mode, is_told_well, notice, with_mode
from tests.support import Source, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol.credential import Credential
    from protocol.curve import Curve, Point

M = TypeVar("M", bound=messages.Message)

WORLD = world_of("arkworks")
CURVE = WORLD.curve
PORTABLE = curve.open_curve("py_ecc")
ONE, OTHER = WORLD.contacts[:2]
HONEST = {one.declared for one in (*WORLD.contacts, *WORLD.others)}
EXPECTED = (Malformed, Refused, NotMine)


class _Member:
    """The proxy's membership, with nothing on a disk."""

    def current(self, _known: Known) -> tuple[str, Credential]:
        """Group and credential."""
        return "north", WORLD.proxies["north"].credential


NOBODY = ("http://127.0.0.1:1",)
TOLD = ProxySettings(port=1, authority=NOBODY, server=NOBODY, genesis="0" * 64, name="north-1", group="north")
EXTENDER = Extender(TOLD, _Member(), Mock(), Mock(), CURVE, Source("extending"))  # type: ignore[arg-type]


def random() -> Source:
    """Weights for checks, always the same: an input fails each time or never."""
    return Source("weights")


def seeds() -> Iterator[bytes]:
    """What honest parties send, and points at the edges of what is one."""
    yield with_mode("record", messages.encode(ONE.record))
    yield with_mode("submission", messages.encode(ONE.submission))
    yield with_mode("partial", messages.encode(ONE.partial))
    yield with_mode("contacts", messages.encode(WORLD.body))
    for answer in (messages.Answer(), messages.Answer(record=ONE.record)):
        yield with_mode("answer", messages.pad(messages.encode(answer), messages.ANSWER_SIZE))
    refused = Outcome(refusal=messages.Refusal(slug="quota", text="no"))
    several = (Outcome(partial=ONE.partial), Outcome(), refused, Outcome(partial=OTHER.partial))
    yield with_mode("outcomes", messages.encode(Outcomes(outcomes=several)))
    yield with_mode("join", messages.encode(WORLD.alice.request))
    yield with_mode("proxy join", messages.encode(WORLD.removed.request))
    yield with_mode("issued", messages.encode(WORLD.alice.issued))
    yield with_mode("ownership", messages.encode(WORLD.report.ownership))
    yield with_mode("scalar", WORLD.report.ownership.answer)
    yield with_mode("scalar", curve.ORDER.to_bytes(32, "big"))
    identity = bytes([0xC0])
    for size, point in ((G1_SIZE, CURVE.g1.encode()), (G2_SIZE, CURVE.g2.encode())):
        name = "G1" if size == G1_SIZE else "G2"
        yield with_mode(name, point)
        yield with_mode(name, bytes([point[0] ^ 0x20]) + point[1:])
        yield with_mode(name, identity + bytes(size - 1))
        yield with_mode(name, bytes([0x80]) + bytes(size - 1))
        yield with_mode(name, b"\x9a\x01\x11\xea" + bytes(size - 4))


def _point(read: Callable[[Curve, bytes], Point]) -> Callable[[bytes], None]:
    """Read by both makers: both take it or neither, and it has one encoding."""

    def check(data: bytes) -> None:
        found = []
        for maker in (CURVE, PORTABLE):
            try:
                found.append(read(maker, data).encode())
            except Malformed as error:
                is_told_well(error)
                found.append(b"")
        assert found[0] == found[1], "the curve makers differ about what is a point"
        assert found[0] in (b"", data), "one encoding for one point"

    return check


def _answer(data: bytes) -> None:
    """What an agent does with all that a proxy answers to a submission."""
    try:
        plain = messages.unpad(data)
        record = messages.decode(Answer, plain).record
        if record is not None:
            check_record(record)
    except EXPECTED as error:
        is_told_well(error)
        return
    assert messages.pad(plain, len(data)) == data
    assert record in (None, ONE.record), "something was accepted that nobody signed"


def _outcomes(data: bytes) -> None:
    """What a proxy makes of the server's answer: a record only where the server signed this very submission."""
    try:
        outcomes = messages.decode(Outcomes, data).outcomes
    except Malformed as error:
        is_told_well(error)
        return
    known = Known(WORLD.parameters, WORLD.keys)
    for result in EXTENDER._extend(known, [ONE.submission] * len(outcomes), outcomes):  # noqa: SLF001
        if isinstance(result, SpotError):
            assert result.text or any(one.refusal is not None and not one.refusal.text for one in outcomes)
            notice(type(result).__name__)
        elif result is not None:
            check_record(result)
            assert result.partial == ONE.partial.signature, "the proxy extended what the server never signed"


def _scalar(data: bytes) -> None:
    try:
        value = curve.decode_scalar(data, "a scalar")
    except Malformed as error:
        is_told_well(error)
        return
    assert 0 <= value < curve.ORDER
    assert curve.encode_scalar(value) == data


def checked(kind: type[M], accept: Callable[[M], object], *honest: M) -> Callable[[bytes], None]:
    """Decode and check; what is accepted must be one of the honest messages."""

    def check(data: bytes) -> None:
        try:
            message = messages.decode(kind, data)
            accept(message)
        except EXPECTED as error:
            is_told_well(error)
            return
        assert message in honest, "something was accepted that nobody signed"

    return check


def check_record(record: ContactRecord) -> None:
    """What an agent does with a proxy's answer."""
    contact.check_record(CURVE, random(), WORLD.keys.signers, ONE.submission, record)


def check_submission(submission: Submission) -> None:
    """What a proxy and the server do with a submission."""
    contact.nullifier_of(submission)
    claim = contact.submission_claim(CURVE, WORLD.keys.issuer(submission.issuer), submission)
    if not batch.holds(CURVE, random(), [claim]):
        raise Refused("the proof does not hold")


def check_partial(partial: Partial) -> None:
    """What a proxy does with the server's answer."""
    contact.check_partial(CURVE, random(), WORLD.keys.signers, ONE.submission, partial)


def _contacts(data: bytes) -> None:
    """What the authority does with declared contacts; each that is fine is one that was made honestly."""
    try:
        body = messages.decode(ReportBody, data)
        reasons = declaration.check_contacts(CURVE, random(), WORLD.rules, body.contacts, set())
    except EXPECTED as error:
        is_told_well(error)
        return
    assert len(reasons) == len(body.contacts)
    for one, reason in zip(body.contacts, reasons, strict=True):
        assert reason is not Reason.FINE or _is_honest(one), "a contact was accepted that nobody signed"


def _is_honest(one: DeclaredContact) -> bool:
    """The role is the declarer's own word: it is not signed."""
    return any(one.record == honest.record and one.secret == honest.secret for honest in HONEST)


def check_join(request: JoinRequest) -> None:
    """What the authority does with a user's request."""
    world = WORLD
    credential.issue(CURVE, random(), world.users.secret, world.users.key, request, world.alice.nonce)


def check_proxy_join(request: JoinRequest) -> None:
    """What a group manager does with a proxy's request."""
    group = WORLD.groups["north"]
    credential.issue(CURVE, random(), group.secret, group.key, request, WORLD.removed.nonce)


def _issued(data: bytes) -> None:
    """What a member does with its credential. Another blinding is as good, so only what is wrong is looked at."""
    try:
        credential.accept(CURVE, WORLD.alice.credential.secret, WORLD.users.key, messages.decode(Issued, data))
    except EXPECTED as error:
        is_told_well(error)


def check_ownership(shown: Show) -> None:
    """What the authority does with the proof of a report."""
    contacts = WORLD.body.contacts
    digest = declaration.digest_of(WORLD.report.body, WORLD.parameters_hash)
    declaration.check_ownership(CURVE, random(), WORLD.users.key, contacts, digest, shown)


CHECKS = {
    "G1": _point(lambda maker, data: maker.decode_g1(data, "a point")),
    "G2": _point(lambda maker, data: maker.decode_g2(data, "a point")),
    "scalar": _scalar,
    "record": checked(ContactRecord, check_record, ONE.record),
    "submission": checked(Submission, check_submission, ONE.submission),
    "partial": checked(Partial, check_partial, ONE.partial),
    "contacts": _contacts,
    "answer": _answer,
    "outcomes": _outcomes,
    "join": checked(JoinRequest, check_join, WORLD.alice.request),
    "proxy join": checked(JoinRequest, check_proxy_join, WORLD.removed.request),
    "issued": _issued,
    "ownership": checked(Show, check_ownership, WORLD.report.ownership),
}

TARGET = Target(
    name="records",
    about="points, scalars, contact records, submissions, joins, proofs: by arkworks, points by py_ecc as well",
    modules=("protocol.contact", "protocol.credential", "protocol.batch", "protocol.curve", "protocol.curve.arkworks"),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    longest=8192,
)
