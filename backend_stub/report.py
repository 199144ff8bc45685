"""How the authority takes a report (*Sig_Verify, CCM_Verify*): a code, the checks, one answer for one report.

From unsealing on, whatever is wrong is said under the report's reply key, in an answer of one size and pace. A report
has one answer for ever, the first that was written down: proxies may repeat reports, and a reply key may serve once.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from backend_stub import chains, groups, store
from backend_stub.clock import today
from backend_stub.join import hash_of
from protocol import declaration, encounter, messages, parameters
from protocol.declaration import Reason, Rules
from protocol.errors import Malformed, NotMine, SpotError
from protocol.messages import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority import Authority, Current
    from protocol.messages import DeclaredContact, Report, ReportBody, SealedReport

log = logging.getLogger(__name__)

ATTEMPTS = 10  # different reports for one code
PACE = 0.1 / messages.REPORT_CLASSES[0]  # real seconds a byte: more than checking so many contacts takes
REFERENCE_BYTES = 5

AGAIN = "ask the authority for another code"


class Objection(Exception):
    """What is wrong with a report: goes into its receipt."""

    def __init__(self, problem: str, text: str, reasons: Sequence[Reason] = ()) -> None:
        super().__init__(problem)
        self.receipt = Receipt(accepted=False, problem=problem, text=text[:300], reasons=bytes(reasons))


@dataclass(frozen=True, slots=True)
class Opened:
    """A report out of its seal. `code`: the hash of its code; `size`: of its answer, in bytes."""

    report: Report
    body: ReportBody
    code: bytes
    digest: bytes
    size: int

    def seal(self, receipt: Receipt) -> bytes:
        """The answer that says this."""
        return declaration.seal_receipt(receipt, self.body.reply_key, self.size)


async def make_code(authority: Authority, onset: int, valid_seconds: int) -> str:
    """A report code for somebody whose symptoms began on this day."""
    code = declaration.new_code(authority.random)
    expires_at = int(authority.clock.now()) + valid_seconds
    row = {"hash": hash_of(declaration.normal_code(code)), "onset": onset, "expires_at": expires_at}
    async with authority.database.transaction() as connection:
        await connection.execute(insert(store.codes).values(row))
    return code


async def declare(authority: Authority, sealed: SealedReport) -> bytes:
    """The sealed answer to a sealed report. Raises NotMine or Malformed where it cannot be opened."""
    loop = asyncio.get_running_loop()
    due = loop.time() + len(sealed.sealed) * PACE
    async with authority.database.transaction() as connection:
        if not await chains.knows(connection, sealed.parameters, authority.clock.now()):
            raise NotMine("this report was made by parameters that are not in use; sync, then declare again")
    opened = await asyncio.to_thread(_open, authority, sealed)
    answer = await _answer(authority, opened)
    await asyncio.sleep(due - loop.time())
    return answer


def _open(authority: Authority, sealed: SealedReport) -> Opened:
    report = declaration.unseal(authority.seal, sealed)
    body = messages.decode(messages.ReportBody, report.body)
    try:
        code = hash_of(declaration.normal_code(body.code))
    except Malformed:
        code = b""  # no code's hash
    digest = declaration.digest_of(report.body, sealed.parameters)
    return Opened(report, body, code, digest, declaration.receipt_size(sealed))


async def _answer(authority: Authority, opened: Opened) -> bytes:
    claimed = await _claim(authority, opened)
    if isinstance(claimed, bytes):
        return claimed
    try:
        _check_code(claimed, authority.clock.now())
        current = await authority.current()
        await _check(authority, opened, current)
        return await _accept(authority, opened, current, claimed.onset)
    except Objection as objection:
        async with authority.database.transaction() as connection:
            return await _write_answer(connection, opened, objection.receipt)


async def _claim(authority: Authority, opened: Opened) -> bytes | Row[Any]:
    """The code, with an attempt counted; or the answer, where there is one already or none of the checks is due."""
    codes, reports = store.codes, store.reports
    async with authority.database.transaction() as connection:
        code = (await connection.execute(select(codes).where(codes.c.hash == opened.code))).one_or_none()
        if code is None:
            unknown = Objection("code-unknown", "there is no such code; check it and type it again")
            return opened.seal(unknown.receipt)
        known = (
            await connection.execute(select(reports.c.answer).where(reports.c.digest == opened.digest))
        ).one_or_none()
        if known is None:
            count = select(func.count()).select_from(reports).where(reports.c.code == opened.code)
            if (await connection.scalar(count) or 0) >= ATTEMPTS:
                often = Objection("code-attempts", f"this code was tried too often; {AGAIN}")
                return opened.seal(often.receipt)
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


async def _check(authority: Authority, opened: Opened, current: Current) -> None:
    """Everything but the code. Raises Objection."""
    contacts = opened.body.contacts
    async with authority.database.transaction() as connection:
        earlier = await _reported(connection, contacts)
        removed = await groups.removed_openings(authority, connection)
    limits, day = current.trusted.parameters.limits, today(authority.clock)
    rules = Rules(current.keys.signers, removed, day - limits.retention_days, day, limits.contacts)
    await asyncio.to_thread(_check_contacts, authority, opened, rules, earlier)
    try:
        issuer = current.keys.issuer(opened.body.issuer)
        await asyncio.to_thread(
            declaration.check_ownership,
            authority.curve,
            authority.random,
            issuer,
            contacts,
            opened.digest,
            opened.report.ownership,
        )
    except SpotError as error:
        raise Objection("ownership", error.text) from None


def _check_contacts(authority: Authority, opened: Opened, rules: Rules, earlier: set[bytes]) -> None:
    try:
        reasons = declaration.check_contacts(authority.curve, authority.random, rules, opened.body.contacts, earlier)
    except SpotError as error:
        raise Objection("too-many", error.text) from None
    if any(reasons):
        raise _bad_contacts(reasons)


def _bad_contacts(reasons: Sequence[Reason]) -> Objection:
    bad = sum(reason is not Reason.FINE for reason in reasons)
    return Objection("contacts", f"{bad} of {len(reasons)} contacts are refused; declare without them", reasons)


async def _accept(authority: Authority, opened: Opened, current: Current, onset: int) -> bytes:
    """Spend the code, mark the nullifiers, queue the tokens, write the answer: all or nothing. Raises Objection."""
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
    codes, reported = store.codes, store.reported
    try:
        async with authority.database.transaction() as connection:
            unspent = update(codes).where(codes.c.hash == opened.code, codes.c.spent_by.is_(None))
            spent = await connection.execute(unspent.values(spent_by=opened.digest))
            if spent.rowcount:
                rows = [{"nullifier": one.record.nullifier, "day": one.record.day} for one in contacts]
                await connection.execute(insert(reported), rows)
                await _queue(connection, waiting)
            else:
                receipt = Objection("code-spent", f"this code was used already; {AGAIN}").receipt
            answer = await _write_answer(connection, opened, receipt)
    except IntegrityError:  # another report with one of these nullifiers was accepted since they were checked
        async with authority.database.transaction() as connection:
            earlier = await _reported(connection, contacts)
        found = [Reason.REPORTED if one.record.nullifier in earlier else Reason.FINE for one in contacts]
        raise _bad_contacts(found) from None
    if spent.rowcount:
        log.info("report %s was accepted", receipt.reference)
    return answer


async def _queue(connection: AsyncConnection, waiting: list[dict[str, Any]]) -> None:
    tokens = store.tokens
    # Whoever gave E away can have the same token declared by somebody else: one of them is enough.
    wanted = {row["token"]: row for row in waiting}
    there = await connection.scalars(select(tokens.c.token).where(tokens.c.token.in_(wanted)))
    for token in there.all():
        del wanted[token]
    if wanted:
        await connection.execute(insert(tokens), list(wanted.values()))


async def _write_answer(connection: AsyncConnection, opened: Opened, receipt: Receipt) -> bytes:
    """The report's one answer: this one, unless another was written meanwhile."""
    reports = store.reports
    unanswered = update(reports).where(reports.c.digest == opened.digest, reports.c.answer.is_(None))
    await connection.execute(unanswered.values(answer=opened.seal(receipt)))
    rows = await connection.scalars(select(reports.c.answer).where(reports.c.digest == opened.digest))
    answer: bytes = rows.one()
    return answer


async def _reported(connection: AsyncConnection, contacts: Sequence[DeclaredContact]) -> set[bytes]:
    column = store.reported.c.nullifier
    asked = {one.record.nullifier for one in contacts}
    return set((await connection.scalars(select(column).where(column.in_(asked)))).all())
