"""What one exchange with a proxy takes of an agent: processor time and bytes, over a real connection on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from agent import transport
from protocol import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMES = 50
WARM = 5  # exchanges before the first that counts


@dataclass(frozen=True)
class Exchange:
    """Of one exchange: processor seconds of the agent, bytes sent and received with the headers of HTTP."""

    cpu_seconds: float
    sent: float
    received: float


class Relay:
    """A server that gives one answer, behind a relay that counts; both in a thread of their own."""

    def __init__(self, answer: bytes) -> None:
        self.url = ""
        self.sent = 0
        self.received = 0
        self._answer = answer
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve meanwhile."""
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        thread.start()
        try:
            self._ready.wait()
            yield
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join()
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._under_way.add(self._loop.create_task(self._relay(port, reader, writer)))

        relay = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        relay.close()
        await asyncio.wait(self._under_way)
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=self._answer, content_type=messages.MEDIA_TYPE)

    async def _relay(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        sent, received = await asyncio.gather(_pump(reader, server_writer), _pump(server_reader, writer))
        self.sent += sent
        self.received += received


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    count = 0
    while data := await reader.read(1 << 16):
        count += len(data)
        writer.write(data)
        await writer.drain()
    writer.close()
    return count


def measure(path: str, body: bytes | None, answer: bytes) -> Exchange:
    """The mean of several exchanges: POST of a body, or GET, and this answer."""
    relay = Relay(answer)

    async def ask(times: int) -> None:
        for _ in range(times):
            if body is None:
                await transport.get(relay.url, path)
            else:
                await transport.post(relay.url, path, body)

    async def time_it() -> float:
        await ask(WARM)
        begun = time.thread_time()  # of this thread only: the server has its own
        await ask(TIMES)
        return time.thread_time() - begun

    with relay.running():
        taken = asyncio.run(time_it())
    return Exchange(taken / TIMES, relay.sent / (TIMES + WARM), relay.received / (TIMES + WARM))
