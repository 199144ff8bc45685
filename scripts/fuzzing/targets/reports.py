"""Sealed reports as the authority opens and checks them, and sealed receipts as an agent opens them.

Whoever has the authority's public key can seal anything, so the seal is put on here: around any plaintext, any
report, any body with a proof by somebody registered. Only contacts that were made honestly may come out as fine, and
only for their owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from agent.commands import views
from backend_stub.authority import verifying
from backend_stub.authority.verifying import Grounds
from protocol import declaration, hashing, messages
from protocol.declaration import Reason
from protocol.errors import Malformed, NotMine, Refused
from protocol.messages import Receipt, Report, ReportBody, SealedReport
from scripts.fuzzing import sealing
from scripts.fuzzing.target import Target, by_mode, is_told_well, notice, with_mode
from tests.support import Source, world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WORLD = world_of("arkworks")
PARAMETERS = WORLD.parameters_hash
REPLY_KEY = WORLD.body.reply_key
REPLY_SIZE = declaration.receipt_size(WORLD.sealed(WORLD.report))
NONCE, OVERHEAD = bytes(12), 28
GROUNDS = Grounds("arkworks", messages.encode(WORLD.parameters))
ALICES = [(one.record, one.declared.secret) for one in WORLD.contacts]
EVERYBODYS = ALICES + [(one.record, one.declared.secret) for one in WORLD.others]
RECEIPTS = (
    Receipt(accepted=True, text="thank you", reference="ABCDEFGH", days=(20_000, 20_001)),
    Receipt(accepted=False, problem="contacts", text="1 of 2 contacts is refused", reasons=bytes([0, 9])),
    Receipt(accepted=False, problem="code-spent", text="this code was used already"),
)


def seeds() -> Iterator[bytes]:
    """Honest reports and receipts, and what is nearly one."""
    report = messages.encode(WORLD.report)
    yield with_mode("report", report)
    yield with_mode("padding", len(report).to_bytes(4, "big") + report)
    yield with_mode("padding", b"\xff\xff\xff\xff")
    yield with_mode("body", messages.encode(WORLD.body))
    yield with_mode("body", messages.encode(WORLD.body_of(WORLD.others[0].declared, WORLD.contacts[2].declared)))
    yield with_mode("body", messages.encode(WORLD.body_of()))
    yield with_mode("sealed", messages.encode(SealedReport(parameters=PARAMETERS, sealed=bytes(1136))))
    for receipt in RECEIPTS:
        yield with_mode("receipt", messages.encode(receipt))
    yield with_mode("answer", declaration.seal_receipt(Source("reply"), RECEIPTS[0], REPLY_KEY, 256))


# --- reports: at the authority ---


def _sealed(data: bytes) -> None:
    """As it comes: nothing can be opened that was not sealed for this authority."""
    try:
        sealed = messages.decode(SealedReport, data)
        assert declaration.receipt_size(sealed) <= len(sealed.sealed)
        declaration.unseal(WORLD.seal, sealed)
    except (Malformed, NotMine) as error:
        is_told_well(error)
        return
    raise AssertionError("a report was opened that nobody sealed")


def _padding(data: bytes) -> None:
    """Anything in a seal, as long as a report is."""
    size = next(size for size in messages.REPORT_CLASSES if len(data) <= size)
    _open(data.ljust(size, b"\0"))


def _report(data: bytes) -> None:
    _open(sealing.padded(data))


def _open(plain: bytes) -> None:
    sealed = sealing.sealed(plain, WORLD.seal.public, PARAMETERS)
    assert declaration.receipt_size(sealed) == len(plain) // messages.RECEIPT_SHARE + OVERHEAD
    try:
        report = declaration.unseal(WORLD.seal, sealed)
    except Malformed as error:
        is_told_well(error)
        return
    if _is_accepted(report):
        assert report == WORLD.report, "a proof was accepted that nobody made"


def _body(data: bytes) -> None:
    """Any body, with the best proof of ownership that a registered user can make for it."""
    shown = WORLD.report.ownership
    try:
        body = messages.decode(ReportBody, data)
        shown = WORLD.report_of(body).ownership
    except (Malformed, Refused) as error:
        is_told_well(error)
    report = Report(body=data, ownership=shown)
    plain = declaration.unseal(
        WORLD.seal, sealing.sealed(sealing.padded(messages.encode(report)), WORLD.seal.public, PARAMETERS)
    )
    assert plain == report
    if _is_accepted(report):
        declared = messages.decode(ReportBody, data).contacts
        assert all((one.record, one.secret) in ALICES for one in declared), "somebody declared what is another's"


def _is_accepted(report: Report) -> bool:
    """What the authority does with an opened report."""
    try:
        body = messages.decode(ReportBody, report.body)
        _normal_code(body.code)
        reasons = declaration.plain_reasons(WORLD.rules, body.contacts, set())
    except (Malformed, Refused) as error:
        is_told_well(error)
        return False
    fine = [index for index, reason in enumerate(reasons) if reason is Reason.FINE]
    records = msgspec.msgpack.encode([body.contacts[index].record for index in fine])
    for index, reason in zip(fine, verifying.check_records(GROUNDS, records), strict=True):
        reasons[index] = Reason(reason)
    for one, reason in zip(body.contacts, reasons, strict=True):
        notice(reason.text)
        if reason is Reason.FINE:
            assert (one.record, one.secret) in EVERYBODYS, "a contact was accepted that nobody signed"
    contacts, digest = msgspec.msgpack.encode(body.contacts), declaration.digest_of(report.body, PARAMETERS)
    ownership = messages.encode(report.ownership)
    problem = verifying.check_ownership(GROUNDS, body.issuer, contacts, digest, ownership)
    notice(problem)
    return not problem and not any(reasons)


def _normal_code(typed: str) -> None:
    try:
        code = declaration.normal_code(typed)
    except Malformed as error:
        is_told_well(error)
        return
    assert declaration.normal_code(code) == code
    assert len(code) == 16


# --- receipts: at the agent ---


def _receipt(data: bytes) -> None:
    """Whatever the authority seals as its answer."""
    if len(data) + 4 + OVERHEAD > REPLY_SIZE:
        return
    padded = messages.pad(data, REPLY_SIZE - OVERHEAD)
    _look(NONCE + ChaCha20Poly1305(REPLY_KEY).encrypt(NONCE, padded, hashing.REPORT))


def _answer(data: bytes) -> None:
    """As it comes from a proxy."""
    _look(data)


def _look(sealed: bytes) -> None:
    try:
        receipt = declaration.open_receipt(sealed, REPLY_KEY)
    except Malformed as error:
        is_told_well(error)
        return
    known = set(declaration.Reason)
    assert all(Reason(one).text for one in receipt.reasons if one in known)
    facts = views.receipt_facts(receipt, len(receipt.reasons))
    assert len(facts["published_days"]) == len(receipt.days)
    if len(messages.encode(receipt)) + 4 + OVERHEAD <= REPLY_SIZE:
        again = declaration.seal_receipt(Source("reply"), receipt, REPLY_KEY, REPLY_SIZE)
        assert len(again) == REPLY_SIZE
        assert declaration.open_receipt(again, REPLY_KEY) == receipt


CHECKS = {
    "sealed": _sealed,
    "padding": _padding,
    "report": _report,
    "body": _body,
    "receipt": _receipt,
    "answer": _answer,
}

TARGET = Target(
    name="reports",
    about="sealed reports, sealed receipts, and what anybody can seal",
    modules=("protocol.declaration", "backend_stub.authority.verifying"),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    longest=16_000,
)
