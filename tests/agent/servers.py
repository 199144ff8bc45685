"""A small real server on loopback that answers as a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Remembers what it was asked, and over which connections."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Handler = answering(web.Response(body=b"answer"))
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.ports: list[int] = []
        self.over = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.headers.append(dict(request.headers))
        self.ports.append(request.transport.get_extra_info("peername")[1])
        self.bodies.append(await request.read())
        return await self.answer(request)


def answering(response: web.Response) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        # A response can be sent once only.
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    return handle


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Such a server, until the end of the block."""
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.over.set()
    await runner.cleanup()


def problem(status: int, body: object, kind: str = "application/problem+json") -> Handler:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answering(web.Response(status=status, body=data, headers={"Content-Type": kind}))
