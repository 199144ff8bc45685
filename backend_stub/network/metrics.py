"""What a part tells its operator: whether it lives, whether it is ready, and numbers. None is about a user.

Labels are paths, status classes and outcomes only: no address, no CCM, nothing of one contact.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from backend_stub.network import problems
from protocol.errors import Misuse, SpotError, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backend_stub.network.listening import Door
    from backend_stub.settings import Settings

log = logging.getLogger(__name__)
disable_created_metrics()  # type: ignore[no-untyped-call] # they tell when the first declaration came

HOST = "127.0.0.1"
PORTS = 64  # that are tried, as several processes of a part run on one machine
READY_SECONDS = 5
POOLS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UNKNOWN = "other"  # paths that are not answered here


class Metrics:
    """The numbers of one part."""

    def __init__(self, door: Door) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self._requests = Counter("spot_requests", "Requests answered.", ["path", "status"], registry=here)
        self._seconds = Histogram("spot_request_seconds", "Until there is an answer.", ["path"], registry=here)
        self._submissions = Counter("spot_submissions", "What became of submissions.", ["outcome"], registry=here)
        for outcome in ("verified", "refused", "signed", "pending"):
            self._submissions.labels(outcome)
        self.pools = Histogram("spot_pool_size", "Submissions forwarded at once.", buckets=POOLS, registry=here)
        self.queue = Gauge("spot_queue_depth", "Submissions that wait for their pool.", registry=here)
        self.database = Histogram("spot_database_seconds", "Duration of a transaction.", registry=here)
        self.tokens = Gauge("spot_tokens_waiting", "Tokens that wait to be published.", registry=here)
        self.age = Gauge("spot_parameters_age_seconds", "Since the authority was last heard of.", registry=here)
        connections = Gauge("spot_connections", "Connections that are open.", registry=here)
        connections.set_function(lambda: door.connections)
        in_hand = Gauge("spot_requests_in_hand", "Requests that are being answered.", registry=here)
        in_hand.set_function(lambda: door.in_hand)

    def request(self, request: web.Request, status: int, seconds: float) -> None:
        """A request was answered so, in so many seconds."""
        resource = request.match_info.route.resource
        path = UNKNOWN if resource is None else resource.canonical
        self._requests.labels(path, f"{status // 100}xx").inc()
        self._seconds.labels(path).observe(seconds)

    def submissions(self, **counts: int) -> None:
        """So many submissions were verified, refused, signed, or are pending."""
        for outcome, count in counts.items():
            self._submissions.labels(outcome).inc(count)


@asynccontextmanager
async def watched(
    told: Settings, metrics: Metrics, door: Door, ready: Callable[[], Awaitable[None]], name: str
) -> AsyncIterator[None]:
    """Answer /health, /ready and /metrics on this machine, if the settings ask for it. Raises Misuse.

    ready: brings the numbers up to date, and raises what keeps the part from its work.
    """
    if not told.watch_port:
        yield
        return
    app = web.Application()
    app.add_routes(_routes(metrics, door, ready))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        port = await _listen(runner, told.watch_port, name)
        log.info("%s tells how it is at http://%s:%d/ready, /health and /metrics", name, HOST, port)
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, first: int, name: str) -> int:
    for port in range(first, min(first + PORTS, 65536)):
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError:
            continue
        return port
    raise Misuse(f"{name} finds no free port at {HOST} from {first} on; change watch_port in its settings.toml")


def _routes(metrics: Metrics, door: Door, ready: Callable[[], Awaitable[None]]) -> list[web.RouteDef]:
    async def is_ready() -> None:
        if door.closing:
            raise Unreachable("this process is about to end")
        try:
            async with asyncio.timeout(READY_SECONDS):
                await ready()
        except TimeoutError:
            raise Unreachable("its database does not answer") from None

    async def tell_health(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def tell_ready(_request: web.Request) -> web.Response:
        try:
            await is_ready()
        except SpotError as error:
            body = problems.body_of(error.slug, 503, error.text)
            return web.Response(body=body, status=503, content_type=problems.MEDIA_TYPE)
        return web.json_response({"ready": True})

    async def tell_numbers(_request: web.Request) -> web.Response:
        try:
            await is_ready()
        except SpotError:
            log.debug("the numbers are not up to date")
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return [web.get("/health", tell_health), web.get("/ready", tell_ready), web.get("/metrics", tell_numbers)]
