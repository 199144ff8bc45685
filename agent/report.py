"""Declaring an infection: which contacts would leave the device, and the report to the authority."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import transport
from agent.account import Member
from agent.drawing import draw_proxy
from agent.exposure import near_seconds
from agent.kept import State, StoredReport
from protocol import declaration, messages
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import CodeRefused, NotMine, Refused, SpotError, Unreachable

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Collection

    from agent.clock import Clock
    from agent.kept import Encounter
    from agent.store import Store
    from protocol.curve import Curve
    from protocol.messages import Parameters, Receipt, Report

TRIES = 3  # proxies asked before giving up for now
SIZES = "report sizes"  # in the store: when a report would have needed which size last, by bytes
STICKY = 14 * SECONDS_A_DAY  # s that a size is kept after it was needed last
RUN_OUT = messages.Receipt(
    accepted=False,
    problem="parameters",
    text="this report was made by parameters that are no longer in use; declare again",
)
"""What this device says itself of a report that the authority cannot open any more."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one contact of a report was refused."""

    encounter: Encounter
    reason: declaration.Reason


class Undelivered(Unreachable):
    """No proxy brought the authority's answer. not_mine: groups of which a proxy said that nobody can open it."""

    def __init__(self, text: str, not_mine: Collection[str] = ()) -> None:
        super().__init__(text)
        self.not_mine = frozenset(not_mine)


class StillChecked(Unreachable):
    """The authority has the report, but had no outcome when its answer was due."""


class ReportRefused(Refused):
    """The authority refused contacts of the report; they are named."""

    def __init__(self, text: str, refusals: list[Refusal]) -> None:
        super().__init__(text)
        self.refusals = refusals


def declarable(store: Store, parameters: Parameters) -> dict[int, list[Encounter]]:
    """The contacts that could be declared, by day: signed, near by own measurement, not declared before."""
    found: dict[int, list[Encounter]] = defaultdict(list)
    for one in store.encounters(state=State.SIGNED):
        if not one.declared and _was_near(one, parameters):
            found[one.day].append(one)
    return dict(found)


def unsigned(store: Store, parameters: Parameters) -> list[Encounter]:
    """Near contacts of which the other side may still come: a declaration now leaves them out. Oldest first."""
    states = (State.OPEN, State.WAITING, State.PENDING)
    return [one for one in store.encounters() if one.state in states and _was_near(one, parameters)]


def _was_near(one: Encounter, parameters: Parameters) -> bool:
    return near_seconds(one, parameters.risk) >= parameters.limits.minimum


class Reporter:
    """Makes and sends reports for one agent."""

    def __init__(
        self, curve: Curve, chance: chances.Random, store: Store, clock: Clock, wire: chances.Random | None = None
    ) -> None:
        """chance: a cryptographic source; wire: one of what is seen on the network only."""
        self._curve = curve
        self._chance = chance
        self._wire = wire or chance
        self._store = store
        self._member = Member(curve, store)
        self._clock = clock

    def outstanding(self, code: str) -> StoredReport | None:
        """A report under this code that was made, but whose answer never came."""
        code = declaration.normal_code(code)
        return next((one for one in self._store.reports() if one.code == code and one.receipt is None), None)

    async def make(self, code: str, days: Collection[int]) -> StoredReport:
        """A report of the declarable contacts of these days, kept before it is sent.

        Raises Malformed, Refused, and KeyChanged where the parameters have run out.
        """
        code = declaration.normal_code(code)
        mine = self._member.account_at(self._clock.now())
        chosen = [
            one for day, contacts in declarable(self._store, mine.parameters).items() if day in days for one in contacts
        ]
        if len(chosen) > mine.parameters.limits.contacts:
            raise Refused(
                f"a report has at most {mine.parameters.limits.contacts} contacts; declare fewer days at once"
            )
        self._chance.shuffle(chosen)  # their order would tell the authority the order of the meetings
        body = messages.ReportBody(
            code=code,
            reply_key=self._chance.randbytes(32),
            issuer=mine.issuer,
            contacts=tuple(_declared(one) for one in chosen),
        )
        hash_ = mine.trusted.head.hash
        issuer = mine.keys.issuer(mine.issuer)
        report = await asyncio.to_thread(
            declaration.make_report, self._curve, self._chance.randbytes, mine.credential, issuer, body, hash_
        )
        stored = StoredReport(
            digest=declaration.digest_of(report.body, hash_),
            code=code,
            report=messages.encode(report),
            parameters=hash_,
            reply_key=body.reply_key,
            encounters=tuple(one.id for one in chosen),
            made=self._clock.now(),
            seal_key=mine.parameters.seal_key,
            valid_until=mine.parameters.valid_until,
        )
        self._store.keep_report(stored)
        return stored

    def queued(self) -> StoredReport | None:
        """The oldest report that was made, but has no answer yet."""
        return next((one for one in self._store.reports() if one.receipt is None), None)

    async def send(self, stored: StoredReport) -> Receipt:
        """Send a report through drawn proxies and note the answer. Sending it again later is safe.

        Raises Unreachable, StillChecked, CodeRefused, ReportRefused; NotMine for a report by former parameters;
        KeyChanged where the parameters have run out.
        """
        now = self._member.account_at(self._clock.now()).parameters
        report = messages.decode(messages.Report, stored.report)
        # The authority opens it by the parameters that it names, whatever came after them.
        key = stored.seal_key or now.seal_key
        try:
            receipt = await self._deliver(report, key, stored.parameters, stored.reply_key)
        except Undelivered as failure:
            if not self._cannot_be_opened(stored, failure.not_mine):
                # Whatever it is: a proxy says it. Only the sealed answer is the authority's word.
                raise Unreachable(f"{failure.text}; the report is kept: run the same command again") from None
            receipt = RUN_OUT
        if receipt.problem == declaration.CHECKING.problem:
            raise StillChecked(
                "the authority is still checking the report, which is kept: "
                "the running agent sends it again, or you, by the same command"
            )
        self._note(stored, receipt)
        return outcome(self._store, stored, receipt)

    async def pretend(self) -> None:
        """Send a dummy as a report is sent. Raises Undelivered."""
        now = self._member.account_at(self._clock.now()).trusted
        report, reply_key = declaration.dummy(self._chance.randbytes)
        await self._deliver(report, now.parameters.seal_key, now.head.hash, reply_key)

    async def _deliver(self, report: Report, key: bytes, parameters: bytes, reply_key: bytes) -> Receipt:
        failure = Undelivered("no proxy could be asked; try again")
        for _ in range(TRIES):
            asked = self._member.account_at(self._clock.now()).parameters
            # Sealed afresh each time, so that two proxies do not see that it is the same.
            sealed = await asyncio.to_thread(declaration.seal, report, key, parameters, self.size())
            proxy = draw_proxy(self._wire, asked)
            body = messages.encode(sealed)
            try:
                data = await transport.post(proxy, messages.DECLARATION_PATH, body, transport.LONG_TIMEOUT, asked.roots)
                return declaration.open_receipt(data, reply_key)
            except SpotError as error:
                not_mine = {
                    group.name for group in asked.groups if proxy in group.proxies and isinstance(error, NotMine)
                }
                failure = Undelivered(error.text, failure.not_mine | not_mine)
        raise failure

    def size(self) -> int:
        """The least size of reports and dummies, bytes: the largest that a report needed within some days.

        So a report has the size of the dummies before it, and no day shows how many contacts there were.
        """
        now = self._clock.now()
        contacts = sum(map(len, declarable(self._store, self._member.account.parameters).values()))
        unanswered = self.queued()
        needed = declaration.size_class(max(contacts, len(unanswered.encounters) if unanswered else 0))
        kept = {size: at for size, at in (self._store.get(SIZES, dict[int, float]) or {}).items() if now - at < STICKY}
        if now - kept.get(needed, -STICKY) > SECONDS_A_DAY:
            kept[needed] = now
            self._store.put(SIZES, kept)
        return max(kept)

    def has_run_out(self, stored: StoredReport) -> bool:
        """Whether its parameters are over, so that it need not be sent to know the answer; which is noted then."""
        over = 0 < stored.valid_until < self._clock.now()
        if over:
            self._note(stored, RUN_OUT)
        return over

    def _cannot_be_opened(self, stored: StoredReport, not_mine: Collection[str]) -> bool:
        """Whether the authority can open this report no more. Proxies of one group may lie, so they are not enough."""
        if not not_mine or stored.parameters == self._member.account.trusted.head.hash:
            return False
        return len(not_mine) > 1 or self._clock.now() > stored.valid_until

    def _note(self, stored: StoredReport, receipt: Receipt) -> None:
        """Keep the authority's answer, and what it means for the contacts."""
        delay = self._member.account.parameters.limits.delay
        for one in _refusals(self._store, stored, receipt):
            number, problem = one.encounter.id, f"not accepted when declared: {one.reason.text}"
            if one.reason is declaration.Reason.REMOVED:
                self._store.ask_again(number, self._clock.now() + self._chance.uniform(0, delay), problem)
            else:
                self._store.refuse_contact(number, problem)
        self._store.finish_report(stored, messages.encode(receipt), accepted=receipt.accepted)


def outcome(store: Store, stored: StoredReport, receipt: Receipt) -> Receipt:
    """The receipt of a report that was accepted. Raises CodeRefused, ReportRefused or NotMine for what was not."""
    if receipt.accepted:
        return receipt
    if receipt.problem.startswith("code"):
        raise CodeRefused(receipt.text)
    if receipt.problem == RUN_OUT.problem:
        raise NotMine(receipt.text)
    refusals = _refusals(store, stored, receipt)
    text = receipt.text
    if again := sum(one.reason is declaration.Reason.REMOVED for one in refusals):
        text += f"; {again} of them are signed anew by another proxy meanwhile: declare with the same code later"
    raise ReportRefused(text, refusals)


def _refusals(store: Store, stored: StoredReport, receipt: Receipt) -> list[Refusal]:
    if receipt.accepted or not receipt.reasons:
        return []
    named = {one.id: one for one in store.encounters()}
    return [
        Refusal(named[number], declaration.Reason(reason))
        for number, reason in zip(stored.encounters, receipt.reasons, strict=False)
        if reason in set(declaration.Reason) and reason and number in named
    ]


def _declared(one: Encounter) -> messages.DeclaredContact:
    record = messages.decode(messages.ContactRecord, one.record or b"")
    return messages.DeclaredContact(record=record, secret=one.secret, role=one.role)
