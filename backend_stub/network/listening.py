"""Who gets in: connections taken, bounded in number and time, and let go without losing a request.

aiohttp reads and answers on a connection; when one begins and how long it may last is settled here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import web

from backend_stub.network import descriptors, problems
from protocol.errors import Misuse, Unreachable

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from aiohttp.web_request import BaseRequest

    from backend_stub.settings import Settings

log = logging.getLogger(__name__)

HEAD_SECONDS = 10  # for a TLS handshake and the head of the first request
IDLE_SECONDS = 20  # for the next request on a connection that was answered
ANSWER_SECONDS = 300  # for an answer to be made, of many submissions with the slow curve maker; and to be taken
STOP_SECONDS = 30  # for all that is in hand when a part stops
LATE_SECONDS = 5  # then, for a request on a connection that was just taken
FULL_SECONDS = 2  # after which to come again where too much is in hand
BACKLOG = 1024  # connections that the kernel keeps until they are taken
AT_ONCE = 64  # connections taken before others have their turn
LEAVING_SHARE = 8  # of all there may be, one in so many may be being told why it is closed
PAUSE_SECONDS = 1.0  # without taking connections, where no more files can be opened
SAY_SECONDS = 60.0  # between two lines in the log about that
NO_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
SHARES = sys.platform == "linux"
"""Whether several processes may listen at one port, the kernel dealing connections out to them."""


class Connection(web.RequestHandler):
    """A connection, from the moment that the kernel hands it over."""

    __slots__ = ("answers", "arriving", "door", "since")

    def __init__(self, door: Door, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_silent(),
            access_log=None,  # type: ignore[arg-type] # it would name the client's address
            auto_decompress=False,  # no message is worth it, and a small body could become a large one
            keepalive_timeout=IDLE_SECONDS + 1,
        )
        self.door = door
        self.since = time.monotonic()
        self.answers = 0
        self.arriving: asyncio.Task[None] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has ended."""
        self.door.gone(self)
        super().connection_lost(exc)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; who takes long to fetch it keeps nobody else from being answered."""
        self.door.sends_back(self)
        if resp.status >= HTTPStatus.BAD_REQUEST and resp.content_type != problems.MEDIA_TYPE:
            resp = _in_our_words(resp.status)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                sent = await super().finish_response(request, resp, start_time)
                self.door.answered(self)
                return sent
        except TimeoutError:
            self.leave()
            return resp, True
        finally:
            self.answers += 1
            self.door.waits(self)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is answered where the application was not asked."""
        # aiohttp repeats an `Expect` that it does not know, and cannot where it is no text.
        return super().handle_error(request, 400 if isinstance(exc, UnicodeError) else status, exc, message)

    def leave(self, error: Unreachable | None = None) -> None:
        """Close at once, after an error if there is one to say."""
        transport = self.transport
        if self.arriving is not None and not self.arriving.done():
            self.arriving.cancel()
        if transport is not None:
            if error is not None:
                transport.write(problems.raw(error))
            self.force_close()
            if error is None:
                transport.abort()
            else:
                self.door.leaves(self)
                asyncio.get_running_loop().call_later(1, transport.abort)
                return
        self.door.gone(self)


def _in_our_words(status: int) -> web.Response:
    """A problem in place of what aiohttp says of a request that never reached the application."""
    answer = web.Response(body=problems.body_of_status(status), status=status, content_type=problems.MEDIA_TYPE)
    answer.force_close()
    return answer


def _silent() -> logging.Logger:
    logger = logging.getLogger("backend_stub.http")
    logger.disabled = True  # aiohttp names the client's address in what it logs
    return logger


class Door:
    """One part's connections: those that wait for a request, send one, are being answered, or fetch their answer."""

    def __init__(self, most_connections: int, most_in_hand: int) -> None:
        self._wanted = most_connections
        self._most_in_hand = most_in_hand
        # The longest in each state first.
        self._waiting: dict[Connection, None] = {}
        self._sending: dict[Connection, None] = {}
        self._in_hand: dict[Connection, None] = {}
        self._fetching: dict[Connection, None] = {}
        self._leaving: set[Connection] = set()
        self._taken = self._answered = 0
        self._taking: dict[socket.socket, Callable[[int], None]] = {}
        self._said_at = -SAY_SECONDS
        self.closing = False

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._waiting) + len(self._sending) + len(self._in_hand) + len(self._fetching)

    @property
    def _most(self) -> int:
        """How many there may be."""
        return min(self._wanted, descriptors.PROCESS.most(self))

    @property
    def in_hand(self) -> int:
        """How many requests are being answered."""
        return len(self._in_hand)

    # --- what a connection does ---

    def waits(self, one: Connection) -> None:
        """It waits for a request."""
        self._move(one, self._waiting)

    def sends(self, one: Connection) -> None:
        """It sends a request's body."""
        self._move(one, self._sending)

    def takes_in_hand(self, one: Connection) -> None:
        """Its request is whole. Raises Unreachable where too many are in hand."""
        if one not in self._in_hand:
            if len(self._in_hand) >= self._most_in_hand:
                raise Unreachable("too many requests at once; try again a little later", FULL_SECONDS)
            self._move(one, self._in_hand)
            self._taken += 1

    def sends_back(self, one: Connection) -> None:
        """Its answer is there."""
        if one in self._in_hand:
            self._move(one, self._fetching)

    def answered(self, one: Connection) -> None:
        """Its answer was sent."""
        if one in self._fetching:
            self._answered += 1

    def gone(self, one: Connection) -> None:
        """It has ended."""
        for state in (self._waiting, self._sending, self._in_hand, self._fetching):
            state.pop(one, None)
        self._leaving.discard(one)

    def leaves(self, one: Connection) -> None:
        """It is being told why it is closed."""
        self.gone(one)
        self._leaving.add(one)

    def _move(self, one: Connection, state: dict[Connection, None]) -> None:
        self.gone(one)
        if one.transport is not None or one.arriving is not None:
            one.since = time.monotonic()
            state[one] = None

    # --- taking connections ---

    def open(self, server: web.Server, sockets: list[socket.socket], context: ssl.SSLContext | None) -> None:
        """Take connections from these sockets, which listen."""

        async def connect(one: Connection, fresh: socket.socket) -> None:
            seconds = HEAD_SECONDS if context is not None else None
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: one, fresh, ssl=context, ssl_handshake_timeout=seconds
                )
            except (OSError, asyncio.CancelledError):  # a handshake that failed, or was taking too long
                fresh.close()
                self.gone(one)

        def arrive(fresh: socket.socket) -> None:
            one = Connection(self, server)
            fresh.setblocking(False)
            one.arriving = asyncio.get_running_loop().create_task(connect(one, fresh))
            self.waits(one)

        descriptors.PROCESS.enter(self, self._wanted)
        for one in sockets:
            one.setblocking(False)
            self._taking[one] = partial(self._take, one, arrive)
            self._listen(one)

    def _listen(self, listening: socket.socket) -> None:
        if not self.closing:
            asyncio.get_running_loop().add_reader(listening, self._taking[listening], AT_ONCE)

    def _pause(self, listening: socket.socket) -> None:
        """Take no connections for a moment: the kernel keeps them, and would wake us without end."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(PAUSE_SECONDS, self._listen, listening)
        if time.monotonic() - self._said_at >= SAY_SECONDS:
            self._said_at = time.monotonic()
            log.warning("no more files can be opened: connections have to wait; raise the limit (ulimit -n)")

    def _take(self, listening: socket.socket, arrive: Callable[[socket.socket], None], most: int) -> None:
        for _ in range(most):
            try:
                fresh, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in NO_FILES:
                    raise
                self._make_room()
                self._pause(listening)
                return
            if self.connections >= self._most and not self._make_room():
                fresh.close()
            else:
                arrive(fresh)

    def _make_room(self) -> bool:
        """End the connection that has been sending its request, or fetching its answer, for longest.

        False where all are being answered.
        """
        oldest = next(iter(self._waiting), None) or next(iter(self._sending), None)
        if oldest is not None:
            full = Unreachable("there are too many connections at once; try again later", FULL_SECONDS)
            # Who is told why holds its file for a second more.
            oldest.leave(full if len(self._leaving) < self._most / LEAVING_SHARE else None)
            return True
        slowest = next(iter(self._fetching), None)
        if slowest is not None:
            slowest.leave()
        return slowest is not None

    async def watch(self) -> None:
        """End connections that take too long, for ever."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for one in list(self._waiting):
                if now - one.since > (IDLE_SECONDS if one.answers else HEAD_SECONDS):
                    late = Unreachable("the request came too slowly; try again over a better connection", 1)
                    late.status = 408
                    one.leave(None if one.answers else late)
                elif now - one.since < HEAD_SECONDS:
                    break

    # --- letting go ---

    async def shut(self, seconds: float) -> None:
        """Take what already waits, answer all that comes of it, and close. Within so many seconds."""
        loop = asyncio.get_running_loop()
        self.closing = True
        for listening, take in self._taking.items():
            loop.remove_reader(listening)
            take(4 * BACKLOG)  # the kernel has told these clients that they are connected
            listening.close()
        began = time.monotonic()
        while self.connections and (passed := time.monotonic() - began) < seconds:
            for one in list(self._waiting):
                if one.answers or passed > LATE_SECONDS:
                    one.force_close()
                    self.gone(one)
            await asyncio.sleep(0.01)
        descriptors.PROCESS.leave(self)
        if self.connections:
            log.warning("%d connections are cut off", self.connections)
        log.info("answered %d of %d requests", self._answered, self._taken)


async def _sockets(host: str, port: int, *, share: bool) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4][:2]) for entry in found):
            made.append(socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=share and SHARES))
    except OSError:
        for one in made:
            one.close()
        raise
    return made


@asynccontextmanager
async def listening(
    app: web.Application, door: Door, told: Settings, name: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Answer at the host and port of these settings; at the end, what was taken is answered. Raises Misuse."""
    runner = web.AppRunner(app, access_log=None, logger=_silent(), shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            sockets = await _sockets(told.host, told.port, share=told.share_port)
        except OSError as error:
            raise Misuse(
                f"{name} cannot listen at {told.host} port {told.port} ({os.strerror(error.errno or 0)}); "
                "stop what does, or change the port in its settings.toml"
            ) from None
        door.open(cast("web.Server", runner.server), sockets, context)
        log.info("%s listens at %s port %d", name, told.host, told.port)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(door.watch())
            try:
                yield
            finally:
                await asyncio.shield(door.shut(STOP_SECONDS))
                watching.cancel()
    finally:
        await runner.cleanup()
