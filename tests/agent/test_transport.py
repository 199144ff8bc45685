"""The agent's side of HTTP, against a server that does what it should not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent import transport
from protocol.errors import (
    Busy,
    CodeRefused,
    KeyChanged,
    Malformed,
    Misuse,
    Moved,
    NotJoined,
    NotMine,
    RadioUnavailable,
    Refused,
    SpotError,
    StorageError,
    Unreachable,
)
from tests.agent.servers import answering, problem

if TYPE_CHECKING:
    from tests.agent.servers import Server


# --- what is sent ---


async def test_the_body_goes_there_and_back(server: Server) -> None:
    assert await transport.post(server.url, "/v1/submission", b"question") == b"answer"
    assert await transport.get(server.url, "/v1/heads") == b"answer"
    assert server.bodies == [b"question", b""]


async def test_no_header_tells_devices_apart(server: Server) -> None:
    await transport.post(server.url, "/", b"question")
    host = server.url.removeprefix("http://")
    expected = {"Host": host, "Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    connection = {"Connection": "close"}
    assert server.headers == [expected | connection | {"Content-Length": "8"}]
    await transport.get(server.url, "/")
    assert server.headers[1] == expected | connection


async def test_cookies_are_not_kept(server: Server) -> None:
    server.answer = answering(web.Response(body=b"", headers={"Set-Cookie": "who=you; Path=/"}))
    for _ in range(3):
        await transport.get(server.url, "/")
    assert not any("Cookie" in headers for headers in server.headers)


async def test_every_request_has_a_connection_of_its_own(server: Server) -> None:
    for _ in range(5):
        await transport.get(server.url, "/")
    await asyncio.gather(*(transport.post(server.url, "/", b"") for _ in range(10)))
    assert len(set(server.ports)) == 15


async def test_a_proxy_of_the_environment_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await transport.get(server.url, "/") == b"answer"


# --- problems ---


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        ("malformed", Malformed),
        ("not-mine", NotMine),
        ("refused", Refused),
        ("code-refused", CodeRefused),
        ("key-changed", KeyChanged),
        ("unreachable", Unreachable),
        ("misuse", Misuse),
        ("error", SpotError),
        ("never-heard-of", SpotError),
        ("", SpotError),
    ],
)
async def test_a_problem_is_the_error_it_names(server: Server, slug: str, kind: type[SpotError]) -> None:
    server.answer = problem(400, {"type": f"urn:spot:{slug}", "detail": "what to do next"})
    with pytest.raises(SpotError) as raised:
        await transport.post(server.url, "/", b"")
    assert type(raised.value) is kind
    assert raised.value.text == "what to do next"


@pytest.mark.parametrize("kind", [StorageError, NotJoined, RadioUnavailable, Moved, Busy])
async def test_what_is_wrong_with_this_device_nobody_else_can_say(server: Server, kind: type[SpotError]) -> None:
    server.answer = problem(400, {"type": f"urn:spot:{kind.slug}", "detail": "run: spot leave"})
    with pytest.raises(SpotError) as raised:
        await transport.post(server.url, "/", b"")
    assert type(raised.value) is SpotError


@pytest.mark.parametrize("status", [500, 502, 503, 507])
async def test_what_the_other_side_cannot_help_is_tried_again(server: Server, status: int) -> None:
    server.answer = problem(status, {"type": "urn:spot:refused", "detail": "later"})
    with pytest.raises(Unreachable, match="later"):
        await transport.get(server.url, "/")


@pytest.mark.parametrize(("asked", "after"), [("7", 7.0), ("999999", 3600.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0)])
@pytest.mark.parametrize(("status", "slug"), [(503, "unreachable"), (429, "too-many")])
async def test_who_is_busy_says_when_to_come_again(
    server: Server, status: int, slug: str, asked: str, after: float
) -> None:
    body = json.dumps({"type": f"urn:spot:{slug}", "detail": "later"}).encode()
    server.answer = answering(web.Response(status=status, body=body, headers={"Retry-After": asked}))
    with pytest.raises(Unreachable, match="later") as raised:
        await transport.get(server.url, "/")
    assert raised.value.after == after


async def test_a_strangers_text_is_short_and_printable(server: Server) -> None:
    detail = "ok\x1b[2J\r\nerror:\u202e evil\u2028\x00\x7f\x9b" + "x" * 10_000
    server.answer = problem(400, {"type": "urn:spot:refused", "detail": detail})
    with pytest.raises(Refused) as raised:
        await transport.get(server.url, "/")
    assert raised.value.text.startswith("ok[2Jerror: evilxxx")
    assert raised.value.text.isprintable()
    assert len(raised.value.text) <= 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type": "urn:spot:refused"}',
        b'{"detail": "no type"}',
        b'{"type": "urn:spot:refused", "detail": ""}',
        b'{"type": "urn:spot:refused", "detail": "\\u0007\\u001b"}',
        b"[" * 16_000,
        b'{"a":' * 3_000,
        b"1" * 16_000,
        b'{"type": "urn:spot:refused", "detail": "\\ud800"}',
        b'{"type": NaN, "detail": Infinity',
    ],
)
async def test_a_body_that_is_no_problem(server: Server, body: bytes) -> None:
    server.answer = problem(400, body)
    with pytest.raises(Unreachable, match="status 400"):
        await transport.get(server.url, "/")


@pytest.mark.parametrize("body", [{"type": 5, "detail": ["a", "list"]}, {"type": None, "detail": {"deep": 1}}])
async def test_fields_of_the_wrong_type(server: Server, body: object) -> None:
    server.answer = problem(400, body)
    with pytest.raises(SpotError):
        await transport.get(server.url, "/")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 404])
async def test_only_200_is_an_answer_and_redirects_are_not_followed(server: Server, status: int) -> None:
    headers = {"Location": f"{server.url}/elsewhere"}
    server.answer = answering(web.Response(status=status, headers=headers))
    with pytest.raises(Unreachable, match=str(status)):
        await transport.get(server.url, "/")
    assert len(server.ports) == 1


# --- sizes and times ---


async def test_an_answer_that_is_too_large_is_not_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1 << 20)
    server.answer = answering(web.Response(body=bytes(1 << 20)))
    assert len(await transport.get(server.url, "/")) == 1 << 20
    server.answer = answering(web.Response(body=bytes((1 << 20) + 1)))
    with pytest.raises(Malformed, match="1048576 bytes"):
        await transport.get(server.url, "/")


async def test_an_endless_answer_is_not_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1 << 20)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
        return response

    server.answer = endless
    with pytest.raises(Malformed, match="broken or hostile"):
        await transport.get(server.url, "/")


async def test_a_problem_that_is_too_large_is_not_read(server: Server) -> None:
    server.answer = problem(400, {"type": "urn:spot:refused", "detail": "x" * 20_000})
    with pytest.raises(Malformed, match="16384 bytes"):
        await transport.get(server.url, "/")


async def test_nothing_is_decompressed(server: Server) -> None:
    bomb = gzip.compress(bytes(1 << 24))
    server.answer = answering(web.Response(body=bomb, headers={"Content-Encoding": "gzip"}))
    assert await transport.get(server.url, "/") == bomb


async def test_a_server_that_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.1)

    async def never(request: web.Request) -> web.StreamResponse:
        await server.over.wait()
        return web.Response()

    server.answer = never
    with pytest.raises(Unreachable, match="in time"):
        await transport.get(server.url, "/")
    with pytest.raises(Unreachable, match="in time"):
        await transport.post(server.url, "/", b"", 0.1)


async def test_a_server_that_answers_byte_by_byte(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.2)

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        return response

    server.answer = slowly
    with pytest.raises(Unreachable, match="in time"):
        await transport.get(server.url, "/")


async def test_an_answer_that_breaks_off(server: Server) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    server.answer = half
    with pytest.raises(Unreachable):
        await transport.get(server.url, "/")


@pytest.mark.parametrize(
    "said", [b"", b"hello\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " * 2000]
)
async def test_one_who_speaks_something_else(said: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    other = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with other:
        with pytest.raises(Unreachable):
            await transport.get(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}", "/")


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="check the network"):
        await transport.get("http://127.0.0.1:9", "/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "spot.example",
        "http://",
        "http://[::1",
        "http://host:99999",
        "ftp://host",
        "file:///etc/passwd",
        "http://a..b",
        f"http://{'a' * 300}",
        f"http://{'a' * 70}.example",
    ],
)
async def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(Malformed, match="http"):
        await transport.get(url, "/v1/heads")
