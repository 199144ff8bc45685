"""HTTP: strangers' bytes, limits, and errors that say what they are."""

from __future__ import annotations

import asyncio
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from backend_stub.network import listening, problems, web
from protocol import messages
from protocol.errors import NotMine

if TYPE_CHECKING:
    from tests.backend_stub.support import World

BODIES = [b"", b"\xc1", b"{}", b"\x80", b"\x91" * 3000, b"\xff" * 100, b"\xdf\xff\xff\xff\xff", b"\xa3abc"]


def takers(there: World) -> list[str]:
    """Everything that takes a body."""
    authority, server, proxy = there.backend.authority, there.backend.server, there.proxies[0]
    return [
        authority + messages.JOIN_PATH,
        authority + messages.DECLARATION_PATH,
        server + messages.PARTIAL_PATH,
        proxy + messages.SUBMISSION_PATH,
        proxy + messages.DECLARATION_PATH,
    ]


async def test_bodies_that_are_no_message(there: World) -> None:
    for url in takers(there):
        for body in BODIES:
            async with there.asking.post(url, data=body) as response:
                assert response.status == 400
                assert response.content_type == "application/problem+json"
                problem = json.loads(await response.read())
                assert problem["type"] == "urn:spot:malformed"
                assert (problem["title"], problem["status"]) == ("Bad Request", 400)
                assert "this is not a" in problem["detail"]


async def test_bodies_that_break_off_or_are_not_encoded_so(there: World, caplog: pytest.LogCaptureFixture) -> None:
    url = there.proxies[0] + messages.SUBMISSION_PATH
    async with there.asking.post(url, data=b"no gzip", headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 400
    host, _, port = there.proxies[0].removeprefix("http://").partition(":")
    for rest in ("Content-Length: 400\r\n\r\nshort", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {messages.SUBMISSION_PATH} HTTP/1.1\r\nHost: x\r\n{rest}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    await there.send("GET", there.proxies[0] + messages.HEADS_PATH)
    assert not [record for record in caplog.records if record.exc_info]


async def test_bodies_that_are_too_large(there: World) -> None:
    for url in takers(there):
        async with there.asking.post(url, data=io.BytesIO(bytes(web.DECLARATION_LIMIT + 1))) as response:
            assert response.status == 400
            assert "larger than" in json.loads(await response.read())["detail"]


async def test_a_compressed_body_is_not_unpacked(there: World) -> None:
    url = there.proxies[0] + messages.SUBMISSION_PATH
    async with there.asking.post(url, data=io.BytesIO(bytes(10**7)), compress=True) as response:
        assert response.status == 400


async def test_the_largest_report_passes_through_a_proxy(there: World) -> None:
    head = (await there.trusted()).head.hash
    sealed = messages.SealedReport(parameters=head, sealed=bytes(messages.REPORT_CLASSES[-1] + 1136))
    with pytest.raises(NotMine):
        await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, messages.encode(sealed))


async def test_a_slow_body_is_given_up(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.1)
    host, _, port = there.proxies[0].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {messages.SUBMISSION_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\nslow".encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"503" in head


async def test_a_slow_head_is_given_up(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.2)
    host, _, port = there.backend.server.removeprefix("http://").partition(":")
    for start in (b"", b"POST /v1/par"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(start)
        async with asyncio.timeout(10):
            said = await reader.read()
        assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\nRetry-After: 1\r\n")
        assert b'"urn:spot:unreachable"' in said
        writer.close()
        await writer.wait_closed()


async def test_unknown_paths_and_methods_are_problems(there: World) -> None:
    base = there.backend.authority
    asked = [
        ("GET", "/", 404),
        ("GET", "/v1/parameters/x", 404),
        ("GET", "/v1/parameters/-1", 404),
        ("PUT", "/v1/join", 405),
    ]
    for method, path, status in asked:
        async with there.asking.request(method, base + path) as response:
            assert response.status == status
            assert json.loads(await response.read())["type"] == "urn:spot:http"


@pytest.mark.parametrize(
    ("sent", "slug"),
    [
        (b"garbage\r\n\r\n", "malformed"),
        (b"GET /v1/heads HTTP/1.1\r\n\r\n", "malformed"),
        (b"GET http://[:: HTTP/1.1\r\nHost: x\r\n\r\n", "malformed"),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "malformed"),
        (b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "malformed"),
        (b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        (b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx", "http"),
        (b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nExpect: \x95\r\nContent-Length: 1\r\n\r\nx", "malformed"),
    ],
    ids=["no method", "no host", "no URL", "long", "length", "chunk", "expectation", "no text"],
)
async def test_what_is_no_request_gets_a_problem_that_repeats_nothing(there: World, sent: bytes, slug: str) -> None:
    host, _, port = there.proxies[0].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"Content-Type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["type"] == f"urn:spot:{slug}"
    assert f" {problem['status']} ".encode() in head
    assert "aaaa" not in problem["detail"]


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b'{"x":' + b"[" * 4000, "answers strangely"),
        (b'{"type":"urn:spot:refused","title":"","status":403,"detail":"\xff"}', "answers strangely"),
        (b'{"type":"urn:spot:refused","title":"","status":403,"detail":""}', "answers strangely"),
        (
            b'{"type":"urn:spot:refused","title":"","status":403,"detail":"no\\u001b[2J\\nINFO all is well"}',
            "no.2JINFO all",
        ),
        (b'{"type":"urn:spot:refused","title":"","status":403,"detail":"%s"}' % (b"x" * 9000), "^x{500}$"),
    ],
    ids=["deep", "no text", "empty", "steers", "long"],
)
def test_what_another_part_says_can_stand_in_a_log(said: bytes, detail: str) -> None:
    error = problems.error_of(said, problems.MEDIA_TYPE, None)
    assert re.search(detail, error.text)
    assert error.text.isprintable()


async def test_who_serves_what(there: World) -> None:
    """A part answers its own paths only."""
    proxy, server = there.proxies[0], there.backend.server
    for url in (proxy + messages.JOIN_PATH, proxy + messages.PARTIAL_PATH, server + messages.SUBMISSION_PATH):
        async with there.asking.post(url, data=b"") as response:
            assert response.status == 404


async def test_what_nobody_thought_of_is_an_error_without_details(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("secret")

    monkeypatch.setattr("backend_stub.authority.join.Nonces.fresh", broken)
    async with there.asking.post(there.backend.authority + messages.NONCE_PATH) as response:
        assert response.status == 500
        assert b"secret" not in await response.read()


async def test_no_answer_names_a_path(there: World, caplog: pytest.LogCaptureFixture) -> None:
    """What its operator has to know is in the log, and nowhere else."""
    key = there.backend.folder / "authority" / "keys" / "issuer-1"
    key.chmod(0o644)
    body = await there.join_body(await there.invite(), 5)
    async with there.asking.post(there.backend.authority + messages.JOIN_PATH, data=body) as response:
        problem = json.loads(await response.read())
    assert (response.status, problem["type"]) == (507, "urn:spot:storage")
    assert "its operator" in problem["detail"]
    assert "/" not in problem["detail"]
    assert f"chmod 600 {key}" in caplog.text
