"""Asking for the signatures on contacts: each through a proxy and at a time drawn for it, until it has them.

With cover, a submission goes out whenever a slot comes: a contact that is due, else a dummy, which differs from one in
nothing but that nobody has its CCM. Nothing that a contact's answer says makes anything else go out, or sooner.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from agent import quota, transport
from agent.drawing import backoff, draw_proxy, groups_for
from agent.following import look_soon
from agent.kept import Encounter, State
from agent.slots import Pace, Slots
from protocol import contact, encounter, messages
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Malformed, NotMine, Refused, SpotError, Unreachable

if TYPE_CHECKING:
    import random as chances

    from agent.account import Member
    from agent.clock import Clock
    from agent.store import Store
    from agent.sync import Progress
    from protocol.curve import Curve
    from protocol.messages import Submission

LOG = logging.getLogger(__name__)

RETRY_FIRST = 60.0  # seconds until an unreachable backend is tried again; doubled each time
RETRY_LAST = 3600.0
LEASE = 120.0  # seconds that a submission under way is left alone by other processes
REFUSALS = 3  # answers of drawn proxies until a contact is given up: those of one group may lie
PARALLEL = 4  # submissions under way at once, without cover
SLOT = "submission slot"  # names in the store
PACE = "submission pace"


class Submitting:
    """One agent's submissions."""

    def __init__(
        self, curve: Curve, chance: chances.Random, wire: chances.Random, store: Store, clock: Clock, member: Member
    ) -> None:
        """chance: a cryptographic source; wire: one of what is seen on the network only."""
        self._curve = curve
        self._chance = chance
        self._wire = wire
        self._store = store
        self._clock = clock
        self._member = member
        self._slots = Slots(SLOT, wire, store, clock)

    def next_at(self) -> float:
        """When something goes out next, seconds since 1970."""
        if base := self._base():
            return self._slots.next_at(self._pace().gap(base))
        self._take_up()
        due = self._store.next_due()
        return math.inf if due is None else due

    async def act(self, progress: Progress) -> None:
        """Send what it is time for: at a slot one submission; without cover all contacts that are due."""
        if base := self._base():
            await self._use_slot(base, progress)
        else:
            await self._submit_due(progress)

    def _base(self) -> float:
        return self._member.account.parameters.limits.submission_gap

    def _pace(self) -> Pace:
        return self._store.get(PACE, Pace) or Pace()

    async def _use_slot(self, base: float, progress: Progress) -> None:
        pace = self._pace()
        if not self._slots.take(pace.gap(base)):
            return
        self._take_up()
        now = self._clock.now()
        due = [one for one in self._store.due_encounters(now) if not self._is_over(one, now)]
        after = pace.after(len(due), base, self._member.account.parameters.limits.submissions, now)
        if after != pace:
            self._store.put(PACE, after)
        try:  # drawn without a look at what there is, as the moment is: a contact that may not go through it waits
            proxy = draw_proxy(self._wire, self._member.account.parameters)
        except Unreachable as error:
            LOG.warning("sync: %s", error)
            return
        if fitting := [one for one in due if self._may_ask(proxy, one)]:
            await self._submit(self._choose(fitting), progress, proxy)
        else:
            await self._pretend(progress, proxy)

    def _may_ask(self, proxy: str, one: Encounter) -> bool:
        """Whether this contact can go out through this proxy; where none can, a dummy goes out, which always can."""
        mine = self._member.account
        return mine.can_submit(one.day) and any(proxy in group.proxies for group in groups_for(mine.parameters, one))

    def _choose(self, due: list[Encounter]) -> Encounter:
        """One of those, drawn by how long somebody was there, and how seldom it was asked for: made-up peers wait."""
        return self._chance.choices(due, [(1 + len(one.samples)) / (1 + one.attempts) for one in due])[0]

    async def _pretend(self, progress: Progress, proxy: str) -> None:
        """Submit what only this device will ever submit."""
        progress.dummies += 1
        try:
            await self.ask(self._chance.randbytes(32), self._plausible_day(), proxy)
        except SpotError as error:
            LOG.debug("a dummy: %s", error)

    def _plausible_day(self) -> int:
        """Of a contact of the last 24 hours; the proxy reads it."""
        mine, now = self._member.account, self._clock.now()
        drawn = encounter.day_of(now - self._chance.uniform(0, SECONDS_A_DAY))
        # Days before are for a device whose credential is over, as long as it has contacts of such days to ask for.
        today, days = encounter.day_of(now), mine.parameters.limits.ask_days
        fitting = (day for day in (drawn, *range(today, today - days, -1)) if mine.can_submit(day))
        return next(fitting, today)

    def _is_over(self, one: Encounter, now: float) -> bool:
        """Whether it is too late to ask for this one, which is noted then."""
        # Of one that was signed before, the server keeps both sides for as long as this device does.
        days = self._member.account.parameters.limits.ask_days
        if one.record is not None or encounter.day_of(now) <= one.day + days:
            return False
        self._store.settle(one, State.ENDED, problem="the other side never came")
        return True

    def _take_up(self) -> None:
        """Go on with what a clock that was ahead put off, or ended; at times drawn anew, so that they are no burst."""
        now, limits = self._clock.now(), self._member.account.parameters.limits
        longest = max(limits.delay, limits.retry_last, RETRY_LAST, transport.LONGEST_WAIT)
        first_day = encounter.day_of(now) - limits.ask_days
        self._store.take_up(now + longest, first_day, lambda: now + self._chance.uniform(0, limits.delay))

    async def _submit_due(self, progress: Progress) -> None:
        limit = asyncio.Semaphore(PARALLEL)

        async def bounded(one: Encounter) -> None:
            async with limit:
                try:
                    await self._submit(one, progress)
                except SpotError as error:  # the store does not take the outcome; the lease runs out, it is tried again
                    LOG.warning("sync: %s", error)
                    progress.failed += 1

        async with asyncio.TaskGroup() as group:
            for due in self._store.due_encounters(self._clock.now()):
                group.create_task(bounded(due))

    async def _submit(self, one: Encounter, progress: Progress, proxy: str = "") -> None:
        now = self._clock.now()
        limits = self._member.account.parameters.limits
        if self._is_over(one, now) or not self._store.lease(one, now + LEASE):
            return
        attempts = one.attempts + 1
        progress.submitted += 1
        try:
            proxy = proxy or draw_proxy(self._wire, self._member.account.parameters, one)
            record = await self.ask(encounter.ccm_of(one.secret), one.day, proxy)
        except NotMine as error:  # one of the two has older parameters than the other: no refusal of the contact
            due = now + backoff(self._chance, attempts, RETRY_FIRST, RETRY_LAST)
            self._store.settle(one, one.state, due=due, problem=error.text, refusals=one.refusals)
            if not limits.submission_gap:  # with cover, no contact makes anything else go out
                look_soon(self._store, now)
            progress.failed += 1
        except (Refused, Malformed) as error:
            refusals = one.refusals + 1
            state = one.state if refusals < REFUSALS else State.REFUSED
            # Not soon: a backend that is wrong for a while, all of it, would end every contact.
            due = now + backoff(self._chance, attempts, limits.retry_first, limits.retry_last)
            self._store.settle(one, state, due=due, problem=error.text, refusals=refusals)
            progress.failed += 1
        except SpotError as error:
            asked = error.after if isinstance(error, Unreachable) else 0.0
            due = now + max(backoff(self._chance, attempts, RETRY_FIRST, RETRY_LAST), asked)
            self._store.settle(one, one.state, due=due, problem=error.text, refusals=one.refusals)
            progress.failed += 1
        else:
            if record is None:
                due = now + backoff(self._chance, attempts, limits.retry_first, limits.retry_last)
                self._store.settle(one, State.PENDING, due=due)
                progress.pending += 1
            else:
                self._store.settle(one, State.SIGNED, record=messages.encode(record))
                progress.signed += 1

    async def ask(self, ccm: bytes, day: int, proxy: str) -> messages.ContactRecord | None:
        """Submit through this proxy; None: pending."""
        mine = self._member.account_at(self._clock.now())
        number = mine.issuer_of(day)
        issuer, own = mine.keys.issuer(number), mine.credentials[number]
        today = encounter.day_of(self._clock.now())
        ticket = quota.draw(self._store, self._wire, today, mine.parameters.limits.submissions)

        def prove() -> Submission:
            return contact.submit(self._curve, self._chance.randbytes, own, issuer, number, ccm, day, ticket)

        submission = await asyncio.to_thread(prove)
        roots, body = mine.parameters.roots, messages.encode(submission)
        data = await transport.post(proxy, messages.SUBMISSION_PATH, body, trust=roots)
        answer = messages.decode(messages.Answer, messages.unpad(data))
        if answer.refusal is not None:
            raise transport.said(answer.refusal.slug, answer.refusal.text)
        record = answer.record
        if record is not None:
            await asyncio.to_thread(
                contact.check_record, self._curve, self._chance.randbytes, mine.keys.signers, submission, record
            )
        return record
