"""The network side of the agent: follows the authority's chains, submits contacts, asks again while they are pending.

What is private about it: every request travels on a connection of its own; every contact goes through a proxy drawn
for it, at a time drawn for it; the heads of both chains are compared over two groups, so that showing different users
different keys, or withholding a batch, is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING

import msgspec

from agent import account, renewal, transport
from agent.lookup import Lookup
from agent.store import Encounter, State
from protocol import chain, contact, encounter, messages, parameters, publication
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import KeyChanged, Malformed, NotMine, Refused, SpotError, Unreachable

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Iterator

    from agent.account import Account
    from agent.clock import Clock
    from agent.store import Store
    from protocol.curve import Curve
    from protocol.messages import Head, Heads, Submission

LOG = logging.getLogger(__name__)

REFRESH = 3600.0  # seconds between two looks at the chains
RETRY_FIRST = 60.0  # seconds until an unreachable backend is tried again; doubled each time
RETRY_LAST = 3600.0
LEASE = 120.0  # seconds that a submission under way is left alone by other processes
REFUSALS = 3  # answers of drawn proxies until a contact is given up: those of one group may lie
PARALLEL = 4  # submissions under way at once
PUBLICATIONS = "publications"  # the chain's name in the store
SYNC = "sync"


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the last look at the backend went. Times: seconds since 1970; routes: groups whose heads agreed."""

    tried: float = 0.0
    succeeded: float = 0.0
    failures: int = 0
    routes: int = 0
    problem: str = ""
    refresh_at: float = 0.0


class Progress(msgspec.Struct, kw_only=True):
    """What one step did."""

    submitted: int = 0
    signed: int = 0
    pending: int = 0
    failed: int = 0
    publications: int = 0
    exposures: int = 0


class Sync:
    """One agent's dealings with the backend. Raises nothing expected: problems go into the store, to be shown."""

    def __init__(self, curve: Curve, chance: chances.Random, store: Store, clock: Clock) -> None:
        """chance: a cryptographic source, such as `random.SystemRandom()`."""
        self._curve = curve
        self._chance = chance
        self._store = store
        self._clock = clock
        self._account: Account | None = None
        self._membership: account.Membership | None = None

    @property
    def account(self) -> Account:
        """The account with the parameters now in force, as another process of this agent may have fetched them.

        Raises NotJoined, Moved.
        """
        account.check_not_moved(self._store)
        trusted, membership = account.read_trusted(self._store), self._store.get(account.MEMBERSHIP, account.Membership)
        if self._account is None or (self._account.trusted, self._membership) != (trusted, membership):
            self._account, self._membership = account.open_account(self._curve, self._store), membership
        return self._account

    def status(self) -> SyncStatus:
        """How the last look went."""
        return self._store.get(SYNC, SyncStatus) or SyncStatus()

    def next_step(self) -> float:
        """When there is something to do next, seconds since 1970."""
        due = self._store.next_due()
        refresh = self.status().refresh_at
        return refresh if due is None else min(due, refresh)

    async def step(self, *, refresh: bool = False) -> Progress:
        """Do everything that is due; `refresh`: look at the chains even if it is not time. Raises Moved."""
        account.check_not_moved(self._store)
        progress = Progress()
        now = self._clock.now()
        if refresh or now >= self.status().refresh_at:
            await self._refresh(progress)
        limit = asyncio.Semaphore(PARALLEL)

        async def bounded(one: Encounter) -> None:
            async with limit:
                try:
                    await self._submit(one, progress)
                except SpotError as error:  # the store does not take the outcome; the lease runs out, it is tried again
                    LOG.warning("sync: %s", error)
                    progress.failed += 1

        async with asyncio.TaskGroup() as group:
            for due in self._store.due_encounters(now):
                group.create_task(bounded(due))
        return progress

    # --- chains ---

    async def _refresh(self, progress: Progress) -> None:
        now = self._clock.now()
        before = self.status()
        try:
            routes = await self._follow_chains(progress)
            parameters.check_validity(self.account.parameters, now)
            await renewal.renew(self._curve, self._chance, self._store, self.account, now)
        except SpotError as error:
            LOG.warning("sync: %s", error)
            failures = before.failures + 1
            status = msgspec.structs.replace(
                before,
                tried=now,
                failures=failures,
                problem=error.text,
                refresh_at=now + self._backoff(failures, RETRY_FIRST, RETRY_LAST),
            )
        else:
            groups = len(self.account.parameters.groups)
            problem = (
                ""
                if routes > 1 or groups < 2
                else ("only one proxy group answers, so keys and publications could not be compared over two routes")
            )
            status = SyncStatus(
                tried=now,
                succeeded=now,
                routes=routes,
                problem=problem,
                refresh_at=now + REFRESH * self._chance.uniform(0.75, 1.25),
            )
        self._store.put(SYNC, status)

    async def _follow_chains(self, progress: Progress) -> int:
        """Follow both chains over proxies of two groups; returns over how many it worked.

        What is wrong with one route is raised at the end only: else whoever spoils one would keep everything away.
        """
        routes = await self._routes()
        troubles: list[SpotError] = []
        fitting = []
        for proxy, heads in routes:
            with _noting(troubles):
                self._compare_known(account.CHAIN, heads.parameters)
                self._compare_known(PUBLICATIONS, heads.publications)
                fitting.append((proxy, heads))
        for proxy, heads in fitting:
            with _noting(troubles):
                await self._follow_parameters(proxy, heads.parameters)
                await self._follow_publications(proxy, heads, progress)
        for _, heads in fitting:
            with _noting(troubles):
                self._compare(account.CHAIN, heads.parameters, self.account.trusted.head)
                self._compare(PUBLICATIONS, heads.publications, self._published())
        if troubles:
            raise troubles[0]
        return len(routes)

    async def _routes(self) -> list[tuple[str, Heads]]:
        """Proxies of up to two different groups that answer, with the heads that they show."""
        groups = list(self.account.parameters.groups)
        self._chance.shuffle(groups)
        found: list[tuple[str, Heads]] = []
        last: SpotError = Unreachable("the parameters name no proxy; ask the authority")
        for group in groups:
            for proxy in self._chance.sample(group.proxies, len(group.proxies)):
                try:
                    data = await transport.get(proxy, messages.HEADS_PATH, self.account.parameters.roots)
                    found.append((proxy, messages.decode(messages.Heads, data)))
                    break
                except SpotError as error:
                    last = error
            if len(found) == 2:
                break
        if not found:
            raise last
        return found

    def _compare_known(self, name: str, head: Head) -> None:
        """A head that is not ahead must be a link that was followed."""
        known = self._store.link(name, head.number)
        if known is not None and known != head.hash:
            raise KeyChanged(
                "the authority's keys or publications are not those that this device followed: it was set up anew, "
                "or somebody stands in for it; ask it, and join again only if it says so"
            )

    def _compare(self, name: str, head: Head, own: Head) -> None:
        """A head must be a link that was followed, or be from before this device joined."""
        known = self._store.link(name, head.number)
        if known != head.hash and (known is not None or head.number > own.number):
            raise KeyChanged(
                "two proxy groups show different keys or publications; you may be shown other ones than other users: "
                "ask the authority"
            )

    async def _follow_parameters(self, proxy: str, head: Head) -> None:
        trusted = self.account.trusted
        while trusted.head.number < head.number:
            path = messages.PARAMETERS_PATH.format(number=trusted.head.number + 1)
            link = messages.decode(messages.Link, await transport.get(proxy, path, self.account.parameters.roots))
            trusted = parameters.advance(trusted, link)
            parameters.read_keys(self._curve, trusted.parameters)
            account.keep_trusted(self._store, trusted, link)

    async def _follow_publications(self, proxy: str, heads: Heads, progress: Progress) -> None:
        head, oldest = heads.publications, heads.oldest
        known = self._published()
        lookup: Lookup | None = None  # most looks find nothing new
        while known.number < head.number:
            number = max(known.number + 1, oldest)
            path = messages.PUBLICATIONS_PATH.format(number=number)
            link = messages.decode(messages.Link, await transport.get(proxy, path, self.account.parameters.roots))
            known, batch = self._follow_publication(known, number, link)
            if lookup is None:
                lookup = await asyncio.to_thread(Lookup, self._store)
            found = await asyncio.to_thread(lookup.find, batch)
            self._store.keep_publication(known, found)
            progress.publications += 1
            progress.exposures += len(found)

    def _published(self) -> Head:
        """The last publication that was followed."""
        return self._store.get(PUBLICATIONS, messages.Head) or chain.EMPTY

    def _follow_publication(self, known: Head, number: int, link: messages.Link) -> tuple[Head, messages.Publication]:
        """The next publication; past those that are no longer offered, if they cannot matter any more."""
        now, keys = self.account.parameters, self.account.parameters.publication_keys
        if number == known.number + 1:
            return publication.follow(known, keys, link)
        first_day_kept = encounter.day_of(self._clock.now()) - now.limits.retention_days
        return publication.resume(known, keys, link, first_day_kept * SECONDS_A_DAY)

    # --- contacts ---

    async def _submit(self, one: Encounter, progress: Progress) -> None:
        now = self._clock.now()
        limits = self.account.parameters.limits
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
            due = now + self._backoff(attempts, RETRY_FIRST, RETRY_LAST)
            self._store.settle(one, one.state, due=due, problem=error.text, refusals=one.refusals)
            self._store.put(SYNC, msgspec.structs.replace(self.status(), refresh_at=now))
            progress.failed += 1
        except (Refused, Malformed) as error:
            refusals = one.refusals + 1
            state = one.state if refusals < REFUSALS else State.REFUSED
            due = now + self._backoff(attempts, RETRY_FIRST, RETRY_LAST)
            self._store.settle(one, state, due=due, problem=error.text, refusals=refusals)
            progress.failed += 1
        except SpotError as error:
            asked = error.after if isinstance(error, Unreachable) else 0.0
            due = now + max(self._backoff(attempts, RETRY_FIRST, RETRY_LAST), asked)
            self._store.settle(one, one.state, due=due, problem=error.text, refusals=one.refusals)
            progress.failed += 1
        else:
            if record is None:
                due = now + self._backoff(attempts, limits.retry_first, limits.retry_last)
                self._store.settle(one, State.PENDING, due=due)
                progress.pending += 1
            else:
                self._store.settle(one, State.SIGNED, record=messages.encode(record))
                progress.signed += 1

    async def _ask(self, one: Encounter) -> messages.ContactRecord | None:
        """Submit through a proxy drawn for this contact; None: pending."""
        mine = self.account
        ccm = encounter.ccm_of(one.secret)
        number = mine.issuer_of(one.day)
        issuer, own = mine.keys.issuer(number), mine.credentials[number]

        def prove() -> Submission:
            return contact.submit(self._curve, self._chance.randbytes, own, issuer, number, ccm, one.day)

        submission = await asyncio.to_thread(prove)
        proxy = self.draw_proxy(one)
        roots, body = mine.parameters.roots, messages.encode(submission)
        data = await transport.post(proxy, messages.SUBMISSION_PATH, body, trust=roots)
        record = messages.decode(messages.Answer, messages.unpad(data)).record
        if record is not None:
            await asyncio.to_thread(
                contact.check_record, self._curve, self._chance.randbytes, mine.keys.signers, submission, record
            )
        return record

    def draw_proxy(self, refused: Encounter | None = None) -> str:
        """The URL of a proxy, drawn among all groups; for a contact that was refused, of another group each time.

        Proxies of one group may lie together: so that they alone cannot end a contact, its last two refusals have to
        come from two groups, in an order that nobody else knows.
        """
        groups = [group for group in self.account.parameters.groups if group.proxies]
        if not groups:
            raise Unreachable("the parameters name no proxy; ask the authority")
        group = self._chance.choice(groups)
        if refused is not None and refused.refusals:
            groups.sort(key=lambda one: hashlib.blake2b(one.name.encode(), key=refused.secret).digest())
            group = groups[refused.refusals % len(groups)]
        return self._chance.choice(group.proxies)

    def _backoff(self, attempts: int, first: float, last: float) -> float:
        """Seconds to wait after so many attempts: doubling from first to last, drawn from the upper half."""
        longest = min(first * 2.0 ** min(attempts - 1, 30), last)
        return self._chance.uniform(longest / 2, longest)


@contextlib.contextmanager
def _noting(troubles: list[SpotError]) -> Iterator[None]:
    """Go on after what is wrong, and keep it."""
    try:
        yield
    except SpotError as error:
        troubles.append(error)
