"""Asking for the signatures on contacts: each through a proxy and at a time drawn for it, until it has them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent import transport
from agent.drawing import backoff, draw_proxy
from agent.following import look_soon
from agent.store import Encounter, State
from protocol import contact, encounter, messages
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
PARALLEL = 4  # submissions under way at once


class Submitting:
    """One agent's submissions."""

    def __init__(self, curve: Curve, chance: chances.Random, store: Store, clock: Clock, member: Member) -> None:
        """chance: a cryptographic source."""
        self._curve = curve
        self._chance = chance
        self._store = store
        self._clock = clock
        self._member = member

    async def submit_due(self, progress: Progress) -> None:
        """Submit all contacts whose time has come."""
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

    async def _submit(self, one: Encounter, progress: Progress) -> None:
        now = self._clock.now()
        limits = self._member.account.parameters.limits
        # Of one that was signed before, the server keeps both sides for as long as this device does.
        if one.record is None and encounter.day_of(now) > one.day + limits.ask_days:
            self._store.settle(one, State.ENDED, problem="the other side never came")
            return
        if not self._store.lease(one, now + LEASE):
            return
        attempts = one.attempts + 1
        progress.submitted += 1
        try:
            record = await self._ask(one)
        except NotMine as error:  # one of the two has older parameters than the other: no refusal of the contact
            due = now + backoff(self._chance, attempts, RETRY_FIRST, RETRY_LAST)
            self._store.settle(one, one.state, due=due, problem=error.text, refusals=one.refusals)
            look_soon(self._store, now)
            progress.failed += 1
        except (Refused, Malformed) as error:
            refusals = one.refusals + 1
            state = one.state if refusals < REFUSALS else State.REFUSED
            due = now + backoff(self._chance, attempts, RETRY_FIRST, RETRY_LAST)
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

    async def _ask(self, one: Encounter) -> messages.ContactRecord | None:
        """Submit through a proxy drawn for this contact; None: pending."""
        mine = self._member.account
        ccm = encounter.ccm_of(one.secret)
        number = mine.issuer_of(one.day)
        issuer, own = mine.keys.issuer(number), mine.credentials[number]

        def prove() -> Submission:
            return contact.submit(self._curve, self._chance.randbytes, own, issuer, number, ccm, one.day)

        submission = await asyncio.to_thread(prove)
        proxy = draw_proxy(self._chance, mine.parameters, one)
        roots, body = mine.parameters.roots, messages.encode(submission)
        data = await transport.post(proxy, messages.SUBMISSION_PATH, body, trust=roots)
        record = messages.decode(messages.Answer, messages.unpad(data)).record
        if record is not None:
            await asyncio.to_thread(
                contact.check_record, self._curve, self._chance.randbytes, mine.keys.signers, submission, record
            )
        return record
