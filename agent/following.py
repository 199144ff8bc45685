"""Following the authority's chains, parameters and publications, over proxies of two groups.

The heads that the two groups show are compared, so that showing different users different keys, or withholding a batch,
is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from agent import account, transport
from agent.lookup import Lookup
from protocol import chain, encounter, messages, parameters, publication
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import KeyChanged, SpotError, Unreachable

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Iterator

    from agent.account import Member
    from agent.clock import Clock
    from agent.store import Store
    from agent.sync import Progress
    from protocol.curve import Curve
    from protocol.messages import Head, Heads

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


def read_status(store: Store) -> SyncStatus:
    """How the last look went."""
    return store.get(SYNC, SyncStatus) or SyncStatus()


def look_soon(store: Store, now: float) -> None:
    """Have the next look at the chains now."""
    store.put(SYNC, msgspec.structs.replace(read_status(store), refresh_at=now))


class Following:
    """What one agent has followed of both chains, and following them further."""

    def __init__(self, curve: Curve, chance: chances.Random, store: Store, clock: Clock, member: Member) -> None:
        """chance: a cryptographic source."""
        self._curve = curve
        self._chance = chance
        self._store = store
        self._clock = clock
        self._member = member

    async def follow(self, progress: Progress) -> int:
        """Follow both chains over proxies of two groups; returns over how many it worked. Raises SpotError.

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
                self._compare(account.CHAIN, heads.parameters, self._member.account.trusted.head)
                self._compare(PUBLICATIONS, heads.publications, self._published())
        if troubles:
            raise troubles[0]
        return len(routes)

    async def _routes(self) -> list[tuple[str, Heads]]:
        """Proxies of up to two different groups that answer, with the heads that they show."""
        groups = list(self._member.account.parameters.groups)
        self._chance.shuffle(groups)
        found: list[tuple[str, Heads]] = []
        last: SpotError = Unreachable("the parameters name no proxy; ask the authority")
        for group in groups:
            for proxy in self._chance.sample(group.proxies, len(group.proxies)):
                try:
                    data = await self._get(proxy, messages.HEADS_PATH)
                    found.append((proxy, messages.decode(messages.Heads, data)))
                    break
                except SpotError as error:
                    last = error
            if len(found) == 2:
                break
        if not found:
            raise last
        return found

    async def _get(self, proxy: str, path: str) -> bytes:
        return await transport.get(proxy, path, self._member.account.parameters.roots)

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
        trusted = self._member.account.trusted
        while trusted.head.number < head.number:
            path = messages.PARAMETERS_PATH.format(number=trusted.head.number + 1)
            link = messages.decode(
                messages.Link, await transport.get(proxy, path, self._member.account.parameters.roots)
            )
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
            link = messages.decode(
                messages.Link, await transport.get(proxy, path, self._member.account.parameters.roots)
            )
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
        now, keys = self._member.account.parameters, self._member.account.parameters.publication_keys
        if number == known.number + 1:
            return publication.follow(known, keys, link)
        first_day_kept = encounter.day_of(self._clock.now()) - now.limits.retention_days
        return publication.resume(known, keys, link, first_day_kept * SECONDS_A_DAY)


@contextlib.contextmanager
def _noting(troubles: list[SpotError]) -> Iterator[None]:
    """Go on after what is wrong, and keep it."""
    try:
        yield
    except SpotError as error:
        troubles.append(error)
