"""Attack 21: requests that are too large, too slow, too deep, of wrong types or encodings, over many connections.

The attacker reaches a proxy or the authority over HTTP and wants one of three things: an answer that is no error that
names what was wrong, connections that it keeps for as long as it likes, or an honest user who is not served meanwhile.
One machine has none of these; what a great many have is not tried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import transport
from backend_stub.network import listening, web
from protocol import messages
from protocol.errors import Unreachable
from tests.backend_stub.support import Encounter, ManualClock
from tests.backend_stub.support import found as backend_found
from tests.backend_stub.support import world as backend_world
from tests.backend_stub.test_limits import PROXY, connect, limited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.backend_stub.support import World

SLOW = 60  # connections that send a byte now and then
SILENT = 400  # connections that send nothing
ROOM = 100  # connections that a proxy has room for


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    await backend_found(tmp_path / "backend", clock)
    async with backend_world(tmp_path / "backend", clock) as there:
        yield there


# --- bodies ---


@dataclass(frozen=True)
class Body:
    """What is sent, and what the error must say of it."""

    name: str
    data: bytes
    says: str
    headers: tuple[tuple[str, str], ...] = ()


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every field of a message."""
    if at:
        yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths(child, (*at, key))


def with_changed(message: messages.Message, at: tuple[Any, ...], to: Any) -> bytes:
    """The message with one field of another type."""
    whole = msgspec.msgpack.decode(messages.encode(message))
    inner = whole
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = to
    return msgspec.msgpack.encode(whole)


def field_of(at: tuple[Any, ...]) -> str:
    """A field as an error names it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)


def bodies(honest: messages.Submission) -> list[Body]:
    """Malformed bodies for what takes submissions."""
    data = messages.encode(honest)
    fields = list(paths(msgspec.msgpack.decode(data)))
    packed = (("Content-Encoding", "gzip"),)
    return [
        *(Body(f"{field_of(at)} is true", with_changed(honest, at, True), f"`${field_of(at)}`") for at in fields),
        Body("a day of 2^63", with_changed(honest, ("day",), 2**63), "`$.day`"),
        Body("oversized", bytes(web.DECLARATION_LIMIT + 1), "larger than"),
        Body("cut", data[:-1], "truncated"),
        Body("with something after it", data + b"\0", "trailing"),
        Body("deep", b"\x91" * 1000, "this is not a Submission"),
        Body("deep where nobody looks", b"\x81\xa1x" + b"\x91" * 4000, "this is not a Submission"),
        Body("a list said to be of 2^32 items", b"\xdd\xff\xff\xff\xff", "this is not a Submission"),
        Body("JSON", json.dumps({"day": 1}).encode(), "this is not a Submission"),
        Body("packed", gzip.compress(data), "this is not a Submission", packed),
        Body("a bomb", gzip.compress(bytes(1 << 24)), "larger than", packed),
    ]


async def send_malformed(there: World) -> list[str]:
    """Send them all to a proxy. What was answered to any otherwise than by an error that says what is wrong."""
    submission = await there.submission(await there.user(), Encounter())
    gained = []
    for one in bodies(submission):
        url = there.proxies[0] + messages.SUBMISSION_PATH
        async with there.asking.post(url, data=io.BytesIO(one.data), headers=dict(one.headers)) as response:
            said = (await response.read()).decode(errors="replace")
        if (response.status, response.content_type) != (400, "application/problem+json") or one.says not in said:
            gained.append(f"{one.name}: {response.status} {said}")
    return gained


async def test_what_is_malformed_is_refused_by_name(there: World) -> None:
    assert await send_malformed(there) == []


async def test_without_checks_and_limits_it_would_get_in(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "decode", lambda kind, data: msgspec.msgpack.decode(data, type=kind, strict=False))
    monkeypatch.setattr("backend_stub.proxy.service.SUBMISSION_LIMIT", 1 << 30)
    gained = await send_malformed(there)
    assert any("oversized" in one for one in gained)
    assert sum("500" in one for one in gained) > 10, "errors that nobody thought of"


# --- connections ---


async def drip(there: World, seconds: float) -> int:
    """Send a byte now and then, of heads and of bodies, for so long at most. How many connections lasted."""
    head = b"POST /v1/submission HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n"

    async def one(start: bytes) -> None:
        reader, writer = await connect(there.proxies[0], start)
        reading = asyncio.create_task(reader.read())
        try:
            while not reading.done():
                writer.write(b"x")
                await asyncio.sleep(0.1)
        except ConnectionError:
            pass
        finally:
            reading.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await reading
            writer.close()

    tasks = [asyncio.create_task(one(start)) for start in (head, head + b"\r\n") for _ in range(SLOW // 2)]
    _, lasting = await asyncio.wait(tasks, timeout=seconds)
    for task in lasting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(lasting)


async def test_who_sends_too_slowly_is_let_go(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_SECONDS", 1)
    monkeypatch.setattr(web, "BODY_SECONDS", 1)
    assert await drip(there, seconds=60) == 0


async def test_without_time_limits_they_would_stay(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_SECONDS", 1000)
    monkeypatch.setattr(web, "BODY_SECONDS", 1000)
    assert await drip(there, seconds=3) == SLOW


async def shut_out(folder: Path) -> bool:
    """Take more connections than a proxy has room for, and keep them. Whether an honest user is not served then."""
    async with limited(folder, ManualClock(), PROXY, connections=ROOM) as there:
        submission = await there.submission(await there.user(), Encounter())
        taken = await asyncio.gather(*(connect(there.proxies[0]) for _ in range(SILENT)))
        await asyncio.sleep(0.5)  # for all to be taken
        try:
            await transport.post(there.proxies[0], messages.SUBMISSION_PATH, messages.encode(submission))
        except Unreachable:
            return True
        finally:
            for _, writer in taken:
                writer.close()
        return False


async def test_connections_that_send_nothing_make_room(tmp_path: Path) -> None:
    assert not await shut_out(tmp_path / "backend")


async def test_if_they_did_not_nobody_else_would_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening.Door, "_make_room", lambda self: False)
    assert await shut_out(tmp_path / "backend")
