"""How the authority takes a report (*Sig_Verify, CCM_Verify*): a code, the checks, one answer for one report.

From unsealing on, whatever is wrong is said under the report's reply key, in an answer of one size. A report has one
answer for ever, the first that was written down: proxies may repeat reports.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import func, insert, select, update

from backend_stub.authority import chains, groups, progress, verifying
from backend_stub.authority.join import hash_of
from backend_stub.authority.verifying import Grounds
from backend_stub.clock import today
from backend_stub.keyring import keys
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import declaration, encounter, messages, parameters
from protocol.declaration import Reason, Rules
from protocol.errors import Malformed, NotMine, SpotError, StorageError
from protocol.messages import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.progress import Progress
    from backend_stub.authority.service import Authority, Current
    from protocol.messages import DeclaredContact, Report, ReportBody, SealedReport
    from protocol.randomness import Random

log = logging.getLogger(__name__)

ATTEMPTS = 10  # different reports for one code
REFERENCE_BYTES = 5
FEW = 32  # contacts: fewer are checked in a thread, which is done before a worker has begun
AT_ONCE = 128  # contacts: between two such pieces, other reports have their turn

DUMMY = Receipt(accepted=False, problem="dummy")  # what nobody reads: nothing is looked up, counted, noted or checked
AGAIN = "ask the authority for another code"


class Objection(Exception):
    """What is wrong with a report: goes into its receipt."""

    def __init__(self, problem: str, text: str, reasons: Sequence[Reason] = ()) -> None:
        super().__init__(problem)
        self.receipt = Receipt(accepted=False, problem=problem, text=text[:300], reasons=bytes(reasons))


class RemovedMeanwhile(Exception):
    """A proxy was removed while a report was checked: it is checked again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a report is answered: under which key, in how many bytes."""

    random: Random = field(repr=False)
    key: bytes = field(repr=False)
    size: int

    def seal(self, receipt: Receipt) -> bytes:
        """The answer that says this."""
        return declaration.seal_receipt(self.random, receipt, self.key, self.size)


@dataclass(frozen=True, slots=True)
class Opened:
    """A report out of its seal. `code`: the hash of its code."""

    report: Report
    body: ReportBody
    code: bytes
    digest: bytes
    reply: Reply

    @property
    def is_dummy(self) -> bool:
        """Whether nobody declares anything by it."""
        return not self.body.code


async def make_code(authority: Authority, onset: int, valid_seconds: int) -> str:
    """A report code for somebody whose symptoms began on this day."""
    code = declaration.new_code(authority.random)
    expires_at = int(authority.clock.now()) + valid_seconds
    row = {"hash": hash_of(declaration.normal_code(code)), "onset": onset, "expires_at": expires_at}
    await authority.database.run(lambda connection: connection.execute(db.new(tables.codes, connection).values(row)))
    return code


async def unseal(authority: Authority, sealed: SealedReport) -> Opened:
    """The report in it. Raises NotMine or Malformed where it cannot be opened."""
    now = authority.clock.now()
    known = await authority.database.run(lambda connection: chains.known(connection, sealed.parameters, now))
    if known is None:
        raise NotMine("this report was made by parameters that are not in use; sync, then declare again")
    return await asyncio.to_thread(_unseal, authority, known.seal_key, sealed)


def _unseal(authority: Authority, seal_key: bytes, sealed: SealedReport) -> Opened:
    report = declaration.unseal(keys.read_seal(authority.folder, seal_key), sealed)
    body = messages.decode(messages.ReportBody, report.body)
    try:
        code = hash_of(declaration.normal_code(body.code))
    except Malformed:
        code = b""  # no code's hash
    digest = declaration.digest_of(report.body, sealed.parameters)
    reply = Reply(authority.random, body.reply_key, declaration.receipt_size(sealed))
    return Opened(report, body, code, digest, reply)


async def answer(authority: Authority, opened: Opened) -> bytes:
    """The sealed answer to a report, once it is checked; to a dummy, a refusal without a look. Raises SpotError."""
    if opened.is_dummy:
        return opened.reply.seal(DUMMY)
    claimed = await authority.database.run(lambda connection: _claim(connection, opened))
    if isinstance(claimed, bytes):
        return claimed
    try:
        _check_code(claimed, authority.clock.now())
        async with progress.shown(authority, len(opened.body.contacts)) as shown:
            while True:
                current = await authority.current()
                grounds = await _check(authority, opened, current, shown)
                with suppress(RemovedMeanwhile):
                    return await _accept(authority, opened, current, grounds, claimed.onset)
    except Objection as objection:
        receipt = objection.receipt
        return await authority.database.run(lambda connection: _write_answer(connection, opened, receipt))


async def _claim(connection: AsyncConnection, opened: Opened) -> bytes | Row[Any]:
    """The code, with an attempt counted; or the answer, where there is one already or none of the checks is due."""
    codes, reports = tables.codes, tables.reports
    code = (await connection.execute(select(codes).where(codes.c.hash == opened.code))).one_or_none()
    if code is None:
        return opened.reply.seal(Objection("code-unknown", "there is no such code; check it and type it again").receipt)
    known = (await connection.execute(select(reports.c.answer).where(reports.c.digest == opened.digest))).one_or_none()
    if known is None:
        count = select(func.count()).select_from(reports).where(reports.c.code == opened.code)
        if (await connection.scalar(count) or 0) >= ATTEMPTS:
            return opened.reply.seal(Objection("code-attempts", f"this code was tried too often; {AGAIN}").receipt)
        await connection.execute(insert(reports).values(digest=opened.digest, code=opened.code))
    elif known.answer is not None:
        earlier: bytes = known.answer
        return earlier
    return code


def _check_code(code: Row[Any], now: float) -> None:
    if code.spent_by is not None:
        raise Objection("code-spent", f"this code was used already; {AGAIN}")
    if code.expires_at < now:
        raise Objection("code-expired", f"this code has expired; {AGAIN}")


async def _check(authority: Authority, opened: Opened, current: Current, progress: Progress) -> Grounds:
    """Everything but the code; returns by what. Raises Objection."""
    contacts = opened.body.contacts
    earlier = await authority.database.run(lambda connection: _reported(connection, contacts))
    removed = await authority.database.run(groups.removed_openings)
    limits, day = current.trusted.parameters.limits, today(authority.clock)
    rules = Rules(current.keys.signers, {}, day - limits.retention_days, day, limits.contacts)
    try:
        reasons = await asyncio.to_thread(declaration.plain_reasons, rules, contacts, earlier)
    except SpotError as error:
        raise Objection("too-many", error.text) from None
    grounds = Grounds(authority.curve.name, messages.encode(current.trusted.parameters), removed)
    compute = authority.workers.run if len(contacts) > FEW else asyncio.to_thread
    fine = [index for index, reason in enumerate(reasons) if reason is Reason.FINE]
    await progress.advance(len(contacts) - len(fine))
    for some in (fine[start : start + AT_ONCE] for start in range(0, len(fine), AT_ONCE)):
        found = [Reason.DOUBTFUL] * len(some)
        if sum(one in (Reason.PARTIAL, Reason.PROOF) for one in reasons) < declaration.MOST_UNSIGNED:
            records = msgspec.msgpack.encode([contacts[index].record for index in some])
            found = [Reason(one) for one in await compute(verifying.check_records, grounds, records)]
        for index, reason in zip(some, found, strict=True):
            reasons[index] = reason
        await progress.advance(len(some))
    if any(reasons):
        raise _bad_contacts(reasons)
    problem = await compute(
        verifying.check_ownership,
        grounds,
        opened.body.issuer,
        msgspec.msgpack.encode(contacts),
        opened.digest,
        messages.encode(opened.report.ownership),
    )
    if problem:
        raise Objection("ownership", problem)
    return grounds


async def warm_up(authority: Authority) -> None:
    """Have the workers ready for a long report."""
    current = await authority.current()
    grounds = Grounds(authority.curve.name, messages.encode(current.trusted.parameters))
    await authority.workers.warm_up(verifying.get_ready, grounds)


def _bad_contacts(reasons: Sequence[Reason]) -> Objection:
    bad = sum(reason is not Reason.FINE for reason in reasons)
    return Objection("contacts", f"{bad} of {len(reasons)} contacts are refused; declare without them", reasons)


async def _accept(authority: Authority, opened: Opened, current: Current, grounds: Grounds, onset: int) -> bytes:
    """Spend the code, mark the nullifiers, queue the tokens, write the answer: all or nothing.

    Raises Objection or RemovedMeanwhile.
    """
    contacts = opened.body.contacts
    waiting: list[dict[str, Any]] = [
        {"token": encounter.token_of(one.secret, one.role), "day": one.record.day, "level": level}
        for one in contacts
        if (level := parameters.infectiousness_level(current.trusted.parameters, onset, one.record.day))
    ]
    receipt = Receipt(
        accepted=True,
        text="thank you: those who were near can be warned now",
        reference=base64.b32encode(authority.random(REFERENCE_BYTES)).decode(),
        days=tuple(sorted({row["day"] for row in waiting})),
    )

    async def work(connection: AsyncConnection) -> tuple[bool, bytes]:
        if (earlier := await _answered(connection, opened)) is not None:
            return False, earlier  # by another process: what it said stands, so nothing else may be done
        if await groups.removed_openings(connection) != grounds.removed:
            raise RemovedMeanwhile
        spent = await _spend(connection, opened)
        if not spent:
            again = Objection("code-spent", f"this code was used already; {AGAIN}")
            return False, await _write_answer(connection, opened, again.receipt)
        await _mark(connection, contacts)
        # Whoever gave E away can have the same token declared by somebody else: one of them is enough.
        if waiting:
            await connection.execute(db.new(tables.tokens, connection), sorted(waiting, key=lambda row: row["token"]))
        return True, await _write_answer(connection, opened, receipt)

    accepted, answer = await authority.database.run(work)
    if accepted:
        log.info("report %s was accepted", receipt.reference)
    return answer


async def _spend(connection: AsyncConnection, opened: Opened) -> bool:
    codes = tables.codes
    unspent = update(codes).where(codes.c.hash == opened.code, codes.c.spent_by.is_(None))
    return (await connection.execute(unspent.values(spent_by=opened.digest))).rowcount > 0


async def _mark(connection: AsyncConnection, contacts: Sequence[DeclaredContact]) -> None:
    """Note that these contacts were declared. Raises Objection where another report did since they were checked."""
    reported = tables.reported
    # In one order, so that no two reports wait for each other.
    declared = sorted((one.record.nullifier, one.record.day) for one in contacts)
    rows = [{"nullifier": nullifier, "day": day} for nullifier, day in declared]
    entered = db.new(reported, connection).returning(reported.c.nullifier)
    marked = set((await connection.scalars(entered, rows)).all())
    found = [Reason.FINE if one.record.nullifier in marked else Reason.REPORTED for one in contacts]
    if any(found):
        raise _bad_contacts(found)


async def _write_answer(connection: AsyncConnection, opened: Opened, receipt: Receipt) -> bytes:
    """The report's one answer: this one, unless another was written meanwhile."""
    reports = tables.reports
    unanswered = update(reports).where(reports.c.digest == opened.digest, reports.c.answer.is_(None))
    await connection.execute(unanswered.values(answer=opened.reply.seal(receipt)))
    answer = await _answered(connection, opened)
    if answer is None:
        raise StorageError("a report was forgotten while it was checked; send it again")
    return answer


async def _answered(connection: AsyncConnection, opened: Opened) -> bytes | None:
    """The report's answer, None where there is none yet."""
    reports = tables.reports
    answer: bytes | None = await connection.scalar(select(reports.c.answer).where(reports.c.digest == opened.digest))
    return answer


async def _reported(connection: AsyncConnection, contacts: Sequence[DeclaredContact]) -> set[bytes]:
    column = tables.reported.c.nullifier
    asked = {one.record.nullifier for one in contacts}
    return set((await connection.scalars(select(column).where(column.in_(asked)))).all())
