"""Too much, too slowly, too often: ended with an error each, while honest requests get through."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest
from aiohttp import web as http

from agent import transport
from backend_stub import settings
from backend_stub.network import calling, listening, rates, web
from backend_stub.network.identity import Identity
from backend_stub.network.rates import Rate
from backend_stub.operations.running import running
from backend_stub.proxy import service as proxy
from protocol import messages
from protocol.errors import SpotError, TooMany, Unreachable
from tests.agent.servers import serving
from tests.backend_stub import support
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from backend_stub.operations.founding import Plan
    from tests.agent.servers import Server
    from tests.backend_stub.support import ManualClock

PROXY = "proxy-group-1-1"


@contextlib.asynccontextmanager
async def limited(
    folder: Path, clock: ManualClock, part: str, plan: Plan = support.PLAN, **changes: Any
) -> AsyncIterator[World]:
    """A running backend of which one part has other limits."""
    await support.found(folder, clock, replace(plan, pool_wait=0.2))
    told = settings.read_part(folder / part)
    settings.write(folder / part, settings.read(type(told), folder / part, changes))
    calls = Identity(folder / PROXY, settings.read_part(folder / PROXY)).calling if plan.tls else None
    async with running(folder, clock) as backend, calling.session(calls) as asking:
        made = World(backend, clock, asking)
        await support.ready(made)
        yield made


async def connect(url: str, start: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(start)
    return reader, writer


async def test_thousands_of_silent_connections(tmp_path: Path, clock: ManualClock) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this system lets no process open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    async with limited(tmp_path / "backend", clock, PROXY, connections=300) as there:
        user = await there.user()
        open_ones = []
        for _ in range(20):
            starts = (b"" if index % 2 else b"POST /v1/submission HTTP/1.1\r\nHost: x\r\n" for index in range(100))
            open_ones += await asyncio.gather(*(connect(there.proxies[0], start) for start in starts))
            assert await there.submit(user, Encounter()) is None, "an honest one gets through"
        ended = open_ones[0][0]
        async with asyncio.timeout(10):
            assert b"503 Service Unavailable\r\nRetry-After: 2" in await ended.read()
        for _, writer in open_ones:
            writer.close()
        assert await there.submit(user, Encounter()) is None
        assert len(open_ones) == 2000


async def until_reset(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end: who still sends is often told so, and reset, at once."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            said += data
    return said


async def test_bytes_that_drip(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await there.user()
    monkeypatch.setattr(listening, "HEAD_SECONDS", 2)
    monkeypatch.setattr(web, "BODY_SECONDS", 2)
    head = b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n"

    async def drip(start: bytes) -> bytes:
        reader, writer = await connect(there.proxies[0], start)
        reading = asyncio.create_task(until_reset(reader))
        while not reading.done():
            with contextlib.suppress(ConnectionError):
                writer.write(b"x")
            await asyncio.sleep(0.05)
        writer.close()
        return await reading

    async with asyncio.timeout(60):
        dripping = [asyncio.create_task(drip(start)) for start in (head, head + b"\r\n") for _ in range(50)]
        for _ in range(5):
            assert await there.submit(user, Encounter()) is None
        said = await asyncio.gather(*dripping)
    assert sum(b"408 Request Timeout" in one for one in said[:50]) > 40, "but where the reset came first"
    assert sum(b"came too slowly" in one for one in said[50:]) > 40


async def test_more_requests_than_can_be_in_hand(tmp_path: Path, clock: ManualClock) -> None:
    async with limited(tmp_path / "backend", clock, PROXY, in_hand=4) as there:
        user = await there.user()
        sent = [await there.submission(user, Encounter()) for _ in range(12)]
        results = await asyncio.gather(*(there.send_submission(one) for one in sent), return_exceptions=True)
        refused = [one for one in results if isinstance(one, Unreachable)]
        assert len(refused) == 8
        assert {one.after for one in refused} == {float(listening.FULL_SECONDS)}
        assert await there.submit(user, Encounter()) is None


async def test_joins_and_declarations_come_at_a_bounded_rate(tmp_path: Path, clock: ManualClock) -> None:
    changes: dict[str, Any] = {"joins_a_second": 0.1, "declarations_a_second": 0.1}
    async with limited(tmp_path / "backend", clock, "authority", **changes) as there:
        for _ in range(2):
            await there.nonce()
        with pytest.raises(TooMany, match="too many ask") as refused:
            await transport.post(there.backend.authority, messages.NONCE_PATH, b"")
        assert 1 <= refused.value.after <= 10
        for url in (*there.proxies, there.proxies[0]):
            with pytest.raises(SpotError) as declared:
                await there.send("POST", url + messages.DECLARATION_PATH, b"no report")
        assert isinstance(declared.value, TooMany)
        await there.trusted()


def asks(rate: Rate, address: str) -> bool:
    try:
        rate.check(cast("http.Request", SimpleNamespace(remote=address)))
    except TooMany:
        return False
    return True


def test_one_network_cannot_use_up_what_is_there_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = Rate(10.0, by_network=True)  # 200 at once, 20 of them from one network
    assert sum(asks(rate, f"192.0.2.{index}") for index in range(100)) == 20
    assert sum(asks(rate, f"2001:db8:0:{index:x}::1") for index in range(100)) == 20
    assert asks(rate, "198.51.100.1")
    assert sum(asks(rate, "127.0.0.1") for _ in range(500)) == 200 - 41, "a web server on this machine speaks for all"
    now += rates.FORGET_SECONDS + 1
    assert asks(rate, "192.0.2.1")
    assert len(rate._networks) == 1, "the others are forgotten"


def test_nor_what_a_proxy_has_for_declarations(tmp_path: Path) -> None:
    told = settings.ProxySettings(
        port=1, authority=("http://a",), genesis="0" * 64, name="north", group="one", server=("http://b",)
    )
    nobody = cast("aiohttp.ClientSession", None)
    rate = proxy.HandingOn(told, nobody, nobody)._declarations
    assert sum(asks(rate, "192.0.2.1") for _ in range(500)) <= 41, "two a second, and twenty seconds of it at once"
    assert asks(rate, "198.51.100.1")


async def test_submissions_come_at_a_bounded_rate_too(tmp_path: Path, clock: ManualClock) -> None:
    async with limited(tmp_path / "backend", clock, PROXY, submissions_a_second=0.2) as there:
        user = await there.user()  # a submission was sent to see whether the proxy is ready
        results = [await asyncio.gather(there.submit(user, Encounter()), return_exceptions=True) for _ in range(5)]
        assert {type(one) for (one,) in results[-2:]} == {TooMany}
        assert await there.submit(user, Encounter(), proxy=there.proxies[1]) is None


async def test_who_keeps_one_part_waiting_does_not_keep_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declarations that take long at the authority leave the way to the server open."""
    monkeypatch.setattr(calling, "CONNECT_SECONDS", 1)
    async with serving() as slow, serving() as quick, calling.session() as asking:
        hang = asyncio.Event()

        async def wait(_request: http.Request) -> http.Response:
            await hang.wait()
            return http.Response()

        slow.answer = wait
        held = [asyncio.create_task(calling.call(asking, "GET", slow.url, 100)) for _ in range(calling.CONNECTIONS)]
        await support.eventually(partial(_asked, slow, calling.CONNECTIONS))
        assert await calling.call(asking, "GET", quick.url, 100) == b"answer"
        hang.set()
        await asyncio.gather(*held)


async def _asked(server: Server, count: int) -> bool:
    return len(server.bodies) >= count


async def test_answers_that_nobody_reads_keep_nobody_else_waiting() -> None:
    """What is in hand is what is being worked at, not what a client takes its time to fetch."""
    large, small = bytes(1 << 24), b"small"

    async def fetch(request: http.Request) -> http.Response:
        return web.answer_bytes(large if request.path == "/large" else small)

    with socket.create_server(("127.0.0.1", 0)) as free:
        told = settings.Settings(port=free.getsockname()[1], in_hand=2)
    app = web.application([http.get("/large", fetch), http.get("/small", fetch)], told)
    door = app[web.DOOR]
    async with listening.listening(app, door, told, "a part"), calling.session() as asking:
        idle = [await connect(told.url, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
        for reader, _ in idle[:2]:
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert await calling.call(asking, "GET", f"{told.url}/small", 100) == small
        assert door.connections >= 3, "those still count as connections"
        for _, writer in idle:
            writer.transport.abort()


async def test_a_body_that_nobody_reads_does_not_get_round_the_limit() -> None:
    hang = asyncio.Event()

    async def wait(_request: http.Request) -> http.Response:
        await hang.wait()
        return web.answer_bytes(b"")

    with socket.create_server(("127.0.0.1", 0)) as free:
        told = settings.Settings(port=free.getsockname()[1], in_hand=2)
    app = web.application([http.get("/", wait)], told)
    async with listening.listening(app, app[web.DOOR], told, "a part"):
        asked = [await connect(told.url, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx") for _ in range(3)]
        answers = [asyncio.create_task(reader.readline()) for reader, _ in asked]
        async with asyncio.timeout(10):
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [one.result() for one in done] == [b"HTTP/1.1 503 Service Unavailable\r\n"]
            hang.set()
            await asyncio.gather(*answers)
        for _, writer in asked:
            writer.close()


async def test_who_does_not_wait_for_answers_is_not_read_without_end() -> None:
    hang = asyncio.Event()

    async def wait(_request: http.Request) -> http.Response:
        await hang.wait()
        return web.answer_bytes(b"")

    with socket.create_server(("127.0.0.1", 0)) as free:
        told = settings.Settings(port=free.getsockname()[1])
    app = web.application([http.get("/", wait)], told)
    door = app[web.DOOR]
    async with listening.listening(app, door, told, "a part"):
        _, writer = await connect(told.url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000)

        async def paused() -> bool:
            there = [cast("asyncio.ReadTransport", one.transport) for one in door._in_hand]
            return any(not one.is_reading() for one in there)

        await support.eventually(paused)
        writer.transport.abort()
        hang.set()


async def test_who_asks_to_be_left_alone_is() -> None:
    """And another is asked in place of it."""
    async with serving() as busy, serving() as free, calling.session() as asking:
        busy.answer = answer_busy
        alone = calling.Peers(asking, [busy.url])
        with pytest.raises(Unreachable) as first:
            await alone.call("GET", "/", 1000)
        assert first.value.after == 60
        with pytest.raises(TooMany):
            await alone.call("GET", "/", 1000)
        assert len(busy.ports) == 1
        both = calling.Peers(asking, [busy.url, free.url])
        for _ in range(10):
            assert await both.call("GET", "/", 1000) == b"answer"
        assert len(busy.ports) <= 2


async def answer_busy(_request: http.Request) -> http.Response:
    return http.Response(status=503, headers={"Retry-After": "60"})
