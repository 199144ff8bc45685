"""What the aiohttp applications share: bodies to messages, errors to problems, limits."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from aiohttp import web

from backend_stub.network import problems
from backend_stub.network.listening import ANSWER_SECONDS, Door, listening
from backend_stub.network.metrics import Metrics, watched
from protocol import errors, messages, parameters
from protocol.errors import Misuse, Refused, SpotError, StorageError, Unreachable

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from backend_stub.network.listening import Connection
    from backend_stub.settings import Settings
    from protocol.messages import Message, Parameters

log = logging.getLogger(__name__)

BODY_SECONDS = 30  # for a body to arrive
HEADS_SECONDS = 60  # for which heads may be kept: agents look hourly
LINK_SECONDS = 86400  # for which a link may be kept: it never changes
ENVELOPE = 4096  # bytes that a message may need around its largest part
DECLARATION_LIMIT = messages.REPORT_CLASSES[-1] + ENVELOPE

FAILED = "something went wrong here; its operator finds it in the log"

DOOR = web.AppKey("door", Door)
METRICS = web.AppKey("metrics", Metrics)

M = TypeVar("M", bound=messages.Message)


# --- answering ---


def _anything(_size: int) -> None:
    """Room for any number of bytes."""


async def read_body(request: web.Request, limit: int, take: Callable[[int], None] = _anything) -> bytes:
    """The body. Raises Malformed where it is larger than `limit` bytes, Unreachable where it comes too slowly.

    take: is told how many bytes came, and raises where that is too much. From here on the request is in hand.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                take(len(chunk))
                data += chunk
                if len(data) > limit:
                    raise errors.Malformed(f"this body is larger than the {limit} bytes that are taken here")
    except TimeoutError:
        raise Unreachable("the request came too slowly; try again over a better connection") from None
    except (web.RequestPayloadError, ConnectionError):
        raise errors.Malformed("the request broke off or is encoded wrongly; send it again") from None
    request.app[DOOR].takes_in_hand(cast("Connection", request.protocol))
    return bytes(data)


async def read_message(request: web.Request, kind: type[M], limit: int, take: Callable[[int], None] = _anything) -> M:
    """The body as a message, as `read_body` reads it. Raises Malformed."""
    return messages.decode(kind, await read_body(request, limit, take))


def answer(message: Message) -> web.Response:
    """A message as the answer."""
    return answer_bytes(messages.encode(message))


def answer_bytes(body: bytes) -> web.Response:
    """Bytes that are a message, or sealed, as the answer."""
    return web.Response(body=body, content_type=messages.MEDIA_TYPE)


def answer_kept(request: web.Request, body: bytes, seconds: int) -> web.Response:
    """Public bytes that whoever hands them on may keep for so many seconds; not sent where the asker has them.

    Who serves them otherwise, as files, makes other ETags: they are compared with one's own only.
    """
    tag = hashlib.sha256(body).hexdigest()[:32]
    lasting = ", immutable" if seconds >= LINK_SECONDS else ""
    headers = {"ETag": f'"{tag}"', "Cache-Control": f"public, max-age={seconds}{lasting}"}
    if tag in (one.value for one in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=messages.MEDIA_TYPE, headers=headers)


def problem(error: SpotError) -> web.Response:
    """An error as the answer; what is said to operators, paths among it, stays in their log."""
    if isinstance(error, StorageError | Misuse):
        log.error("a request failed: %s", error.text)
        return _problem(error.slug, error.status, FAILED)
    return _problem(error.slug, error.status, error.text, problems.headers_of(error))


def _problem(slug: str, status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = problems.body_of(slug, status, text)
    return web.Response(body=body, status=status, content_type=problems.MEDIA_TYPE, headers=headers)


@web.middleware
async def _answering(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    door, connection = request.app[DOOR], cast("Connection", request.protocol)
    began = time.monotonic()
    try:
        if request.can_read_body and request.method == "POST":  # no other one's is ever read
            door.sends(connection)
        else:
            door.takes_in_hand(connection)
        async with asyncio.timeout(ANSWER_SECONDS):
            response = await handler(request)
    except SpotError as error:
        response = problem(error)
    except web.HTTPException as error:
        text = f"{request.method} on this path is not answered here: {error.reason}"
        response = _problem("http", error.status, text)
    except TimeoutError:
        response = problem(Unreachable("this took too long; try again later"))
    except Exception:
        log.exception("a request failed in a way nobody thought of")
        response = problem(SpotError(FAILED))
    if door.closing:
        response.force_close()
    request.app[METRICS].request(request, response.status, time.monotonic() - began)
    return response


def check_proxy(request: web.Request, now: Parameters) -> None:
    """That a proxy of these parameters asks, by its certificate; not on a part without TLS. Raises Refused."""
    transport = request.transport
    if transport is None:
        raise Refused("the connection ended before it was known who asks; ask again")
    if transport.get_extra_info("sslcontext") is None:
        return
    names = (transport.get_extra_info("peercert") or {}).get("subjectAltName", ())
    listed = parameters.proxy_urls(now)
    if not any(kind == "URI" and name in listed for kind, name in names):
        raise Refused(
            "only proxies that the authority's parameters list are answered here, by their own certificates; "
            "have this one admitted: spot-backend proxy add or invite"
        )


def numbered(path: str) -> str:
    """A path with a number, for a route that takes nothing else there."""
    return path.replace("{number}", r"{number:\d{1,9}}")


def number_in(request: web.Request) -> int:
    """The number in the path of such a route."""
    return int(request.match_info["number"])


def application(routes: Iterable[web.RouteDef], told: Settings) -> web.Application:
    """An application that answers errors as problems, and no more at once than these settings say."""
    app = web.Application(middlewares=[_answering])
    app[DOOR] = Door(told.connections, told.in_hand)
    app[METRICS] = Metrics(app[DOOR])
    app.add_routes(routes)
    return app


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


@asynccontextmanager
async def answering(
    app: web.Application,
    told: Settings,
    name: str,
    context: ssl.SSLContext | None,
    ready: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Answer where these settings say, and tell the machine's operator how it goes. Raises Misuse.

    ready: brings the metrics up to date, and raises what keeps the part from its work.
    """
    async with watched(told, app[METRICS], app[DOOR], ready, name), listening(app, app[DOOR], told, name, context):
        yield
