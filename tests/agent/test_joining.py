"""Joining over a front-end that shows other heads than the authority's: nothing is kept that it did not sign."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent import account
from agent.store import create_store
from protocol import chain, credential, hashing, messages, parameters, publication
from protocol.curve import open_curve
from protocol.errors import KeyChanged, SpotError
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.joined import world
from tests.agent.servers import serving
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.store import Store
    from protocol.messages import Head, Link
    from tests.agent.servers import Server

PUBLISHED = messages.PUBLICATIONS_PATH.format(number="")
NONCE = b"n" * 32


def published() -> list[Link]:
    """Three publications of the authority."""
    links, head = [], chain.EMPTY
    for at in range(3):
        (one,) = publication.build(Source(f"publication {at}"), head, int(NOON) + at, [], 64)
        head = messages.Head(number=one.number, hash=publication.hash_of(one))
        links.append(publication.sign(world().publication_key, one))
    return links


def head_of(link: Link) -> Head:
    return messages.Head(
        number=messages.decode(messages.Publication, link.body).number, hash=chain.hash_of(hashing.PUBLICATION, link)
    )


def front(server: Server, genesis: Link, head: Head, links: list[Link]) -> None:
    """Between the authority and who joins: shows this head and these links, and hands everything else on."""
    trusted = parameters.begin(genesis)

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == messages.HEADS_PATH:
            body = messages.encode(messages.Heads(parameters=trusted.head, publications=head))
        elif request.path.startswith(PUBLISHED):
            number = int(request.path.removeprefix(PUBLISHED))
            if number >= len(links):
                return web.Response(status=404)
            body = messages.encode(links[number])
        elif request.path == messages.NONCE_PATH:
            body = messages.encode(messages.Nonce(nonce=NONCE))
        else:
            asked = messages.decode(messages.UserJoin, await request.read())
            here, users = world(), world().users
            issued = credential.issue(here.curve, here.random, users.secret, users.key, asked.join, NONCE)
            body = messages.encode(issued)
        return web.Response(body=body)

    server.answer = answer


@pytest.fixture
async def authority() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return create_store(tmp_path / "empty", "file", Source("store key"))


async def join(store: Store, url: str) -> None:
    genesis = joined.link_of([url])
    followed = [(parameters.begin(genesis), genesis)]
    await account.join(open_curve(), random.SystemRandom(), store, url, joined.INVITATION, followed, NOON)


async def test_the_newest_publication_is_where_a_device_begins(empty: Store, authority: Server) -> None:
    links = published()
    front(authority, joined.link_of([authority.url]), head_of(links[-1]), links)
    await join(empty, authority.url)
    assert empty.get("publications", messages.Head) == head_of(links[-1])
    assert account.open_account(open_curve(), empty).url == authority.url


def _far_ahead(links: list[Link]) -> tuple[Head, list[Link]]:
    return messages.Head(number=2**31, hash=bytes(32)), links


def _another_hash(links: list[Link]) -> tuple[Head, list[Link]]:
    return messages.Head(number=2, hash=bytes(32)), links


def _an_older_link(links: list[Link]) -> tuple[Head, list[Link]]:
    return messages.Head(number=2, hash=head_of(links[1]).hash), [*links[:2], links[1]]


def _signed_by_another(links: list[Link]) -> tuple[Head, list[Link]]:
    other = publication.sign(world().chain_key, messages.decode(messages.Publication, links[2].body))
    return head_of(links[2]), [*links[:2], other]


@pytest.mark.parametrize("lie", [_far_ahead, _another_hash, _an_older_link, _signed_by_another])
async def test_a_false_head_at_joining_is_refused(empty: Store, authority: Server, lie: object) -> None:
    """Kept, it would be ahead of all that is ever published: nobody would be warned, and nothing would tell."""
    assert callable(lie)
    front(authority, joined.link_of([authority.url]), *lie(published()))
    with pytest.raises(SpotError) as raised:
        await join(empty, authority.url)
    assert isinstance(raised.value, KeyChanged) or lie is _far_ahead, "a link that is not there may come"
    assert empty._rows("SELECT name FROM state") == []
    assert empty._rows("SELECT * FROM links") == []
