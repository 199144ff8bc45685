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
from agent.store import State, StoredReport
from protocol import declaration, messages
from protocol.errors import CodeRefused, NotMine, Refused, SpotError, Unreachable

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Collection

    from agent.clock import Clock
    from agent.store import Encounter, Store
    from protocol.curve import Curve
    from protocol.messages import Parameters, Receipt

TRIES = 3  # proxies asked before giving up for now


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one contact of a report was refused."""

    encounter: Encounter
    reason: declaration.Reason


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

    def __init__(self, curve: Curve, chance: chances.Random, store: Store, clock: Clock) -> None:
        """chance: a cryptographic source."""
        self._curve = curve
        self._chance = chance
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

    async def send(self, stored: StoredReport) -> Receipt:
        """Send a report through drawn proxies and note the answer. Sending it again later is safe.

        Raises Unreachable, CodeRefused, ReportRefused; NotMine for a report by former parameters; KeyChanged where the
        parameters have run out.
        """
        now = self._member.account_at(self._clock.now()).parameters
        report = messages.decode(messages.Report, stored.report)
        # The authority opens it by the parameters that it names, whatever came after them.
        key = stored.seal_key or now.seal_key
        failure: SpotError = Unreachable("no proxy could be asked; try again")
        not_mine: set[str] = set()  # groups of which a proxy said so
        for _ in range(TRIES):
            # Sealed afresh each time, so that two proxies do not see that it is the same.
            body = messages.encode(declaration.seal(report, key, stored.parameters))
            proxy = draw_proxy(self._chance, now)
            try:
                data = await transport.post(proxy, messages.DECLARATION_PATH, body, transport.LONG_TIMEOUT, now.roots)
                receipt = declaration.open_receipt(data, stored.reply_key)
                break
            except SpotError as error:
                failure = error
                if isinstance(error, NotMine):
                    not_mine |= {group.name for group in now.groups if proxy in group.proxies}
        else:
            if self._has_run_out(stored, not_mine):
                self._store.drop_report(stored)
                raise NotMine("this report was made by parameters that are no longer in use; declare again")
            # Whatever it is: a proxy says it. Only the sealed answer is the authority's word.
            raise Unreachable(f"{failure.text}; the report is kept: run the same command again")
        if receipt.accepted:
            self._store.finish_report(stored, messages.encode(receipt))
            return receipt
        self._store.drop_report(stored)
        raise self._refusal(stored, receipt)

    def _has_run_out(self, stored: StoredReport, not_mine: Collection[str]) -> bool:
        """Whether the authority can open this report no more. Proxies of one group may lie, so they are not enough."""
        if not not_mine or stored.parameters == self._member.account.trusted.head.hash:
            return False
        return len(not_mine) > 1 or self._clock.now() > stored.valid_until

    def _refusal(self, stored: StoredReport, receipt: Receipt) -> SpotError:
        if receipt.problem.startswith("code"):
            return CodeRefused(receipt.text)
        named = {one.id: one for one in self._store.encounters()}
        refusals = [
            Refusal(named[number], declaration.Reason(reason))
            for number, reason in zip(stored.encounters, receipt.reasons, strict=False)
            if reason in set(declaration.Reason) and reason and number in named
        ]
        limits, again = self._member.account.parameters.limits, 0
        for refusal in refusals:
            number, problem = refusal.encounter.id, f"not accepted when declared: {refusal.reason.text}"
            if refusal.reason is declaration.Reason.REMOVED:
                self._store.ask_again(number, self._clock.now() + self._chance.uniform(0, limits.delay), problem)
                again += 1
            else:
                self._store.refuse_contact(number, problem)
        text = receipt.text
        if again:
            text += f"; {again} of them are signed anew by another proxy meanwhile: declare with the same code later"
        return ReportRefused(text, refusals)


def _declared(one: Encounter) -> messages.DeclaredContact:
    record = messages.decode(messages.ContactRecord, one.record or b"")
    return messages.DeclaredContact(record=record, secret=one.secret, role=one.role)
