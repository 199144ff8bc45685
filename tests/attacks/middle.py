"""Somebody between agents and proxies: a proxy that lies, or a CDN. It shows whoever asks which links it likes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestServer

from agent import transport
from protocol import chain, hashing, messages
from protocol.errors import SpotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    import pytest

    from protocol.messages import Head, Heads, Link

    Trick: TypeAlias = Callable[[list[Link]], list[Link]]


class Middle:
    """Answers in place of proxies, from what they say; `trick` makes of the true publications those that are shown."""

    def __init__(self, proxies: Mapping[str, str], trick: Trick, lying: Collection[str]) -> None:
        """proxies: URLs by name; lying: the names of those that the trick is played on."""
        self._proxies = dict(proxies)
        self._trick = trick
        self._lying = lying
        self._get = transport.get

    async def take(self, request: web.Request) -> web.Response:
        """Answer a GET whose path begins with the proxy's name."""
        name, path = request.match_info["name"], "/" + request.match_info["path"]
        try:
            answer = self._altered if name in self._lying else self._get
            body = await answer(self._proxies[name], path)
        except (IndexError, SpotError):
            raise web.HTTPNotFound from None
        return web.Response(body=body, content_type=messages.MEDIA_TYPE)

    async def _altered(self, proxy: str, path: str) -> bytes:
        heads = messages.decode(messages.Heads, await self._get(proxy, messages.HEADS_PATH))
        shown = self._trick(await self._links(proxy, heads.publications))
        if path == messages.HEADS_PATH:
            return messages.encode(_with_end(heads, shown))
        number = path.removeprefix(messages.PUBLICATIONS_PATH.format(number=""))
        return messages.encode(shown[int(number)]) if number.isdigit() else await self._get(proxy, path)

    async def _links(self, proxy: str, head: Head) -> list[Link]:
        paths = (messages.PUBLICATIONS_PATH.format(number=number) for number in range(head.number + 1))
        return [messages.decode(messages.Link, await self._get(proxy, path)) for path in paths]


def _with_end(heads: Heads, shown: list[Link]) -> Heads:
    last = chain.head_of(hashing.PUBLICATION, shown[-1], len(shown) - 1) if shown else chain.EMPTY
    return messages.Heads(parameters=heads.parameters, publications=last, oldest=heads.oldest)


@asynccontextmanager
async def between(
    monkeypatch: pytest.MonkeyPatch, proxies: Mapping[str, str], trick: Trick, lying: Collection[str] | None = None
) -> AsyncIterator[None]:
    """Have all that is fetched from these proxies pass through somebody who tricks on those `lying` (None: on all)."""
    middle = Middle(proxies, trick, proxies if lying is None else lying)
    app = web.Application()
    app.router.add_get("/{name}/{path:.*}", middle.take)
    honest = transport.get
    names = {url: name for name, url in proxies.items()}
    async with TestServer(app) as listening:

        async def get(base: str, path: str, trust: transport.Trust = transport.SYSTEM) -> bytes:
            return await honest(str(listening.make_url(f"/{names[base]}")), path, trust)

        with monkeypatch.context() as patched:
            patched.setattr(transport, "get", get)
            yield
