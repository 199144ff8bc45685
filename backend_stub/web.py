"""What the aiohttp applications share: bodies to messages, errors to problems, limits, and no address anywhere."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from protocol import errors, messages
from protocol.errors import Misuse, SpotError, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from backend_stub.settings import Settings
    from protocol.messages import Message

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
BODY_SECONDS = 30  # for a body to arrive
ANSWER_SECONDS = 300  # for an answer to be made: a full report, with the slow curve maker
IDLE_SECONDS = 20  # for a connection to say something
STOP_SECONDS = 5  # for requests under way when a part stops
CALL_SECONDS = 60  # for another part to answer
CONNECT_SECONDS = 5
ENVELOPE = 4096  # bytes that a message may need around its largest part
DECLARATION_LIMIT = messages.REPORT_CLASSES[-1] + ENVELOPE

M = TypeVar("M", bound=messages.Message)


class NotFound(SpotError):
    """There is no such thing here, or not yet."""

    slug = "not-found"
    status = 404


class Problem(msgspec.Struct, frozen=True):
    """An error over HTTP (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


# --- answering ---


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body. Raises Malformed where it is larger than `limit` bytes, Unreachable where it comes too slowly."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > limit:
                    raise errors.Malformed(f"this body is larger than the {limit} bytes that are taken here")
    except TimeoutError:
        raise Unreachable("the request came too slowly; try again over a better connection") from None
    except (web.RequestPayloadError, ConnectionError):
        raise errors.Malformed("the request broke off or is encoded wrongly; send it again") from None
    return bytes(data)


async def read_message(request: web.Request, kind: type[M], limit: int) -> M:
    """The body as a message. Raises Malformed."""
    return messages.decode(kind, await read_body(request, limit))


def answer(message: Message) -> web.Response:
    """A message as the answer."""
    return answer_bytes(messages.encode(message))


def answer_bytes(body: bytes) -> web.Response:
    """Bytes that are a message, or sealed, as the answer."""
    return web.Response(body=body, content_type=messages.MEDIA_TYPE)


def problem(error: SpotError) -> web.Response:
    """An error as the answer."""
    return _problem(error.slug, error.status, error.text)


def _problem(slug: str, status: int, text: str) -> web.Response:
    body = Problem(f"urn:spot:{slug}", HTTPStatus(status).phrase, status, text)
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=PROBLEM_TYPE)


@web.middleware
async def _errors_as_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await handler(request)
    except SpotError as error:
        return problem(error)
    except web.HTTPException as error:
        return _problem("http", error.status, f"{request.method} on this path is not answered here: {error.reason}")
    except TimeoutError:
        return problem(Unreachable("this took too long; try again later"))
    except Exception:
        log.exception("a request failed in a way nobody thought of")
        return problem(SpotError("something went wrong here; its operator finds it in the log"))


def numbered(path: str) -> str:
    """A path with a number, for a route that takes nothing else there."""
    return path.replace("{number}", r"{number:\d{1,9}}")


def number_in(request: web.Request) -> int:
    """The number in the path of such a route."""
    return int(request.match_info["number"])


def application(routes: Iterable[web.RouteDef]) -> web.Application:
    """An application that answers errors as problems."""
    app = web.Application(middlewares=[_errors_as_problems])
    app.add_routes(routes)
    return app


def _silent() -> logging.Logger:
    logger = logging.getLogger("backend_stub.http")
    logger.disabled = True  # aiohttp names the client's address in what it logs
    return logger


@asynccontextmanager
async def listening(app: web.Application, settings: Settings, name: str) -> AsyncIterator[None]:
    """Answer at the host and port of these settings. Raises Misuse where that cannot be."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_silent(),
        auto_decompress=False,  # no message is worth it, and a small body could become a large one
        keepalive_timeout=IDLE_SECONDS,
        shutdown_timeout=STOP_SECONDS,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise Misuse(
                f"{name} cannot listen at {settings.host} port {settings.port} ({os.strerror(error.errno or 0)}); "
                "stop what does, or change the port in its settings.toml"
            ) from None
        log.info("%s listens at %s port %d", name, settings.host, settings.port)
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Have this work done meanwhile; it is stopped at the end, and what breaks it breaks the part."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


# --- asking other parts ---


def session() -> aiohttp.ClientSession:
    """A session for asking other parts: keeps no cookies, follows nothing."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


async def call(
    asking: aiohttp.ClientSession,
    method: str,
    url: str,
    limit: int,
    body: bytes | None = None,
    seconds: float = CALL_SECONDS,
) -> bytes:
    """The answer of another part, at most `limit` bytes. Raises what it says, or Unreachable."""
    headers = {"Content-Type": messages.MEDIA_TYPE} if body is not None else None
    data = None if body is None else io.BytesIO(body)  # in pieces: a large one at once would hold up the others
    timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
    try:
        async with asking.request(
            method, url, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            said = bytearray()
            async for chunk in response.content.iter_any():
                said += chunk
                if len(said) > limit:
                    raise Unreachable("another part of the backend answers too much; try again later")
            if response.status == HTTPStatus.OK:
                return bytes(said)
            raise _error_of(bytes(said), response.content_type)
    except (aiohttp.ClientError, TimeoutError, OSError):
        raise Unreachable("another part of the backend is away; try again later") from None


def _error_of(body: bytes, content_type: str) -> SpotError:
    if content_type == PROBLEM_TYPE:
        try:
            said = msgspec.json.decode(body, type=Problem)
        except msgspec.DecodeError:
            said = None
        if said is not None:
            slug = said.type.removeprefix("urn:spot:")
            return (NotFound if slug == NotFound.slug else errors.error_named(slug))(said.detail)
    return Unreachable("another part of the backend answers strangely; try again later")
