"""Attack 26: users are shown different parameters or publications, to tell them apart or to warn only some.

The attacker is the authority itself, or has its signing keys, and tells proxies whom to show what: a second link of the
same number, as well signed as the first. What an agent was shown over one route it compares with the other, and with
what it followed before: another view by route, or by time, is told. A user to whom **all** routes show the other view
**all** the time cannot notice: **not prevented**. But that user's head is not the others', and `spot status` shows it:
two users who compare would know.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from msgspec.structs import replace

from agent import account
from agent.commands import views
from agent.following import PUBLICATIONS, Following
from agent.sync import Sync
from protocol import chain, encounter, hashing, messages, parameters, publication
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.servers import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.store import Store
    from protocol.messages import Link
    from tests.agent.servers import Server

PARAMETERS = messages.PARAMETERS_PATH.format(number="")
PUBLISHED = messages.PUBLICATIONS_PATH.format(number="")
MET = joined.met()


@dataclass(frozen=True)
class View:
    """What is shown: the links of both chains."""

    parameters: tuple[Link, ...]
    publications: tuple[Link, ...] = ()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As a proxy does that is told to show this."""
        path = request.path
        if path == messages.HEADS_PATH:
            heads = messages.Heads(
                parameters=chain.head_of(hashing.PARAMETERS, self.parameters[-1], len(self.parameters) - 1),
                publications=(
                    chain.head_of(hashing.PUBLICATION, self.publications[-1], len(self.publications) - 1)
                    if self.publications
                    else chain.EMPTY
                ),
            )
            return web.Response(body=messages.encode(heads))
        for start, links in ((PARAMETERS, self.parameters), (PUBLISHED, self.publications)):
            if path.startswith(start):
                return web.Response(body=messages.encode(links[int(path.removeprefix(start))]))
        return web.Response(status=404)


@dataclass(frozen=True)
class Device:
    """A user's, with the two routes on which it asks."""

    store: Store
    clock: VirtualClock
    sync: Sync
    routes: tuple[Server, Server]

    async def look(self, *shown: View) -> str:
        """Look at the chains while each route shows its view. What the user is told."""
        for route, view in zip(self.routes, shown, strict=True):
            route.answer = view.answer
        await self.sync.step(refresh=True)
        return self.sync.status().problem

    def shown(self) -> str:
        """What `spot status` shows for users to compare."""
        published = self.store.get(PUBLICATIONS, messages.Head) or chain.EMPTY
        return views.head_text(account.read_trusted(self.store).head) + views.head_text(published)


@asynccontextmanager
async def devices(folder: Path, count: int = 1) -> AsyncIterator[tuple[list[Device], dict[str, tuple[View, View]]]]:
    """Users who joined, and what they may be shown: by name, the true view and another one."""
    async with serving() as north, serving() as south:
        link = joined.link_of()
        first = parameters.begin(link).parameters
        urls = (north.url, south.url)
        groups = tuple(replace(group, proxies=(url,)) for group, url in zip(first.groups, urls, strict=True))
        link = parameters.sign(joined.world().chain_key, replace(first, groups=groups))
        made = []
        for number in range(count):
            store = joined.make_store(folder / str(number))
            joined.join(store, link)
            store.keep_encounters([MET])
            clock = VirtualClock(NOON)
            made.append(
                Device(store, clock, Sync(joined.world().curve, random.SystemRandom(), store, clock), (north, south))
            )
        try:
            yield made, choices(link)
        finally:
            for one in made:
                one.store.close()


def choices(genesis: Link) -> dict[str, tuple[View, View]]:
    """Two links of one number for each chain, all signed with the authority's keys."""
    here = joined.world()
    trusted = parameters.begin(genesis)
    next_one = replace(trusted.parameters, number=1, previous=trusted.head.hash)
    for_some = replace(next_one, authority="the same, with a key to tell some users by", seal_key=bytes(32))
    bait = messages.PublishedDay(day=MET.day, level=1, tokens=encounter.token_of(MET.secret, 1 - MET.role))
    nothing = messages.Publication(number=0, previous=bytes(32), issued_at=int(NOON), days=())
    return {
        "parameters": (
            View((genesis, parameters.sign(here.chain_key, next_one))),
            View((genesis, parameters.sign(here.chain_key, for_some))),
        ),
        "publications": (
            View((genesis,), (publication.sign(here.publication_key, nothing),)),
            View((genesis,), (publication.sign(here.publication_key, replace(nothing, days=(bait,))),)),
        ),
    }


async def by_route(folder: Path, kind: str) -> str:
    """Show one route the true view, and the other another one. What the user is told."""
    async with devices(folder) as ((one,), shown):
        return await one.look(*shown[kind])


async def by_time(folder: Path, kind: str) -> str:
    """Show both routes the other view, and later the true one. What the user is told then."""
    async with devices(folder) as ((one,), shown):
        true, other = shown[kind]
        assert await one.look(other, other) == ""
        return await one.look(true, true)


async def by_user(folder: Path, kind: str) -> tuple[set[str], set[str], list[bool]]:
    """Show one user the true view, another one the other, on all routes, again and again.

    What they are told, what they could compare, and who is warned.
    """
    async with devices(folder, 2) as (both, shown):
        told = {await one.look(view, view) for _ in range(3) for one, view in zip(both, shown[kind], strict=True)}
        return told, {one.shown() for one in both}, [bool(one.store.exposures()) for one in both]


KINDS = pytest.mark.parametrize("kind", ["parameters", "publications"])


@KINDS
async def test_another_view_by_route_is_told(tmp_path: Path, kind: str) -> None:
    assert "two proxy groups show different keys or publications" in await by_route(tmp_path, kind)


@KINDS
async def test_another_view_by_time_is_told(tmp_path: Path, kind: str) -> None:
    assert "not those that this device followed" in await by_time(tmp_path, kind)


@KINDS
async def test_another_view_by_user_is_not_seen_but_can_be_compared(tmp_path: Path, kind: str) -> None:
    told, shown, warned = await by_user(tmp_path, kind)
    assert told == {""}, "if this fails, a split by user is noticed: say so in docs/threat-model.md"
    assert warned == [False, kind == "publications"]
    assert len(shown) == 2, "they would know by comparing"


@KINDS
async def test_agents_that_do_not_compare_would_be_split_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Following, "_compare", lambda *_: None)
    monkeypatch.setattr(Following, "_compare_known", lambda *_: None)
    assert await by_route(tmp_path / "route", kind) == ""
    assert await by_time(tmp_path / "time", kind) == ""
