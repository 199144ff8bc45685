"""What the authority signed after a backup was made: fetched from whoever still has it, and checked link by link.

An authority that went on from an older state would sign a second link of the same number: two truths, which its
agents take for an attack, and rightly. Proxies keep the links that they handed on, also while the authority is away;
so do mirrors. Every link that a device has seen came from one of them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend_stub.authority import chains
from backend_stub.network import calling
from protocol import messages, parameters, publication
from protocol.encounter import TOKEN_SIZE
from protocol.errors import KeyChanged, SpotError, Unreachable
from protocol.messages import Heads, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from protocol.messages import Head, Parameters
    from protocol.parameters import Trusted

SECONDS = 10.0  # for one answer
PROBED = 64  # links after the first that nobody has
PATHS = {chains.PARAMETERS: messages.PARAMETERS_PATH, chains.PUBLICATIONS: messages.PUBLICATIONS_PATH}


@dataclass(slots=True)
class Known:
    """What a backup holds of the chains, and what was signed since."""

    trusted: Trusted
    published: Head
    links: list[tuple[str, Head, Link]] = field(default_factory=list)
    tokens: set[bytes] = field(default_factory=set)

    @property
    def parameters(self) -> Parameters:
        """The newest parameters."""
        return self.trusted.parameters


class CatchingUp:
    """The way to those who may have newer links."""

    def __init__(self, asking: aiohttp.ClientSession, sources: Sequence[str]) -> None:
        self._asking = asking
        self._sources = [source.rstrip("/") for source in sources]

    async def catch_up(self, known: Known) -> None:
        """Add all that was signed since.

        Raises Unreachable where nobody has even the links of the backup, or somebody has or knows of more than
        were found; KeyChanged where they belong to another chain.
        """
        if not await self._have_its_end(known):
            raise Unreachable(
                f"none of {', '.join(self._sources)} has the links in this backup, so nobody knows what came after; "
                "name others, proxies that ran without a break above all"
            )
        while (link := await self._link(chains.PARAMETERS, known.trusted.head.number + 1)) is not None:
            known.trusted = parameters.advance(known.trusted, link)
            known.links.append((chains.PARAMETERS, known.trusted.head, link))
        while (link := await self._link(chains.PUBLICATIONS, known.published.number + 1)) is not None:
            known.published, batch = publication.follow(known.published, known.parameters.publication_keys, link)
            known.links.append((chains.PUBLICATIONS, known.published, link))
            known.tokens.update(_tokens(batch))
        for chain, head in ((chains.PARAMETERS, known.trusted.head), (chains.PUBLICATIONS, known.published)):
            await self._check_gap(chain, head.number + 1)
        await self._check_heads(known)

    async def _have_its_end(self, known: Known) -> bool:
        """Whether anybody has the last link of the backup, of either chain, or one more."""
        for chain, head in ((chains.PARAMETERS, known.trusted.head), (chains.PUBLICATIONS, known.published)):
            for number in (head.number, head.number + 1):
                if number >= 0 and await self._link(chain, number) is not None:
                    return True
        return False

    async def _link(self, chain: str, number: int) -> Link | None:
        for source in self._sources:
            try:
                url = source + PATHS[chain].format(number=number)
                return messages.decode(Link, await self._get(url))
            except SpotError:
                continue
        return None

    async def _check_gap(self, chain: str, missing: int) -> None:
        """That nobody has a link soon after the one that nobody has: proxies keep those that they were asked for."""

        async def look(source: str, number: int) -> None:
            with suppress(SpotError):
                messages.decode(Link, await self._get(source + PATHS[chain].format(number=number)))
                found.append((number, source))

        found: list[tuple[int, str]] = []
        after = range(missing + 1, missing + 1 + PROBED)
        await asyncio.gather(*(look(source, number) for source in self._sources for number in after))
        if found:
            number, source = min(found)
            raise Unreachable(
                f"{source} has link {number} of the {chain}, and nobody has link {missing}; name others as well"
            )

    async def _check_heads(self, known: Known) -> None:
        for source in self._sources:
            try:
                heads = messages.decode(Heads, await self._get(source + messages.HEADS_PATH))
            except SpotError:
                continue  # proxies ask the authority for its heads, and it is away
            for theirs, ours in ((heads.parameters, known.trusted.head), (heads.publications, known.published)):
                if theirs.number > ours.number:
                    raise Unreachable(f"{source} knows of a link {theirs.number} that nobody has; name others as well")
                if theirs.number == ours.number and theirs.hash != ours.hash:
                    raise KeyChanged(f"{source} shows another chain than this backup; is it the same authority's?")

    async def _get(self, url: str) -> bytes:
        return await calling.call(self._asking, "GET", url, messages.LINK_LIMIT, seconds=SECONDS)


def _tokens(batch: messages.Publication) -> set[bytes]:
    return {day.tokens[at : at + TOKEN_SIZE] for day in batch.days for at in range(0, len(day.tokens), TOKEN_SIZE)}


def lost_keys(before: Parameters, now: Parameters) -> list[str]:
    """The keys that were made after the backup, so are not in it."""
    old = _keys(before)
    return [name for name, key in _keys(now).items() if old.get(name) != key]


def _keys(of: Parameters) -> dict[str, object]:
    return {
        "seal": of.seal_key,
        **{f"publication from {one.first}": one.key for one in of.publication_keys},
        **{f"server {one.number}": one.key for one in of.server_keys},
        **{f"issuer {one.number}": one.key for one in of.issuers},
        **{f"{group.name}": group.key for group in of.groups},
    }
