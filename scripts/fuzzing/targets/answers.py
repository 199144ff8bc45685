"""What a hostile server answers to an agent, and to another part of a backend: errors that are told well, or bytes."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent import transport
from agent.doctor import probing
from backend_stub.network import calling, problems
from protocol import errors, messages
from protocol.errors import SpotError, Unreachable
from scripts.fuzzing.target import Target, is_told_well, notice, with_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.fuzzing.target import Check

LIMIT = 4096  # bytes of an answer
SLOW = 5.0  # seconds: the other side has said all, and gone
PROBLEM = b'{"type":"urn:spot:%s","title":"x","status":%d,"detail":"try again later"}'
_RAW, _PART, _DOCTOR = "agent asks", "part asks", "doctor looks"
_PROBLEM, _PART_PROBLEM = "problem to agent", "problem to part"


def seeds() -> Iterator[bytes]:
    """Honest answers, and some that are not."""
    body = PROBLEM % (b"too-many", 429)
    kind = problems.MEDIA_TYPE.encode()
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 429 x\r\nContent-Type: %s\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%s"
        % (kind, len(body), body),
        b"HTTP/1.1 302 Found\r\nLocation: http://[::/\r\nSet-Cookie: a=b; Max-Age=x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/html; charset=\xff\r\n\r\n\x1f\x8b",
        b"HTTP/1.0 500 \r\n\r\n",
    )
    for answer in heads:
        yield with_mode(_RAW, answer)
        yield with_mode(_PART, answer)
        yield with_mode(_DOCTOR, answer)
    for kind_, status in ((errors.Refused, 403), (errors.StorageError, 507), (problems.NotFound, 404)):
        for mode in (_PROBLEM, _PART_PROBLEM):
            yield with_mode(mode, PROBLEM % (kind_.slug.encode(), status))
    kept = b"Content-Type: application/msgpack\r\nDate: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n"
    yield with_mode(_DOCTOR, b"HTTP/1.1 200 OK\r\n" + kept)
    yield with_mode(_PART_PROBLEM, b'{"x":' + b"[" * 2000)


class _Server:
    """Answers every connection with the same bytes, whatever it is asked, and closes."""

    def __init__(self) -> None:
        self.says = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.says)
            await writer.drain()
            writer.write_eof()
        except (ConnectionError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@contextmanager
def ready() -> Iterator[Check]:
    """The check of one answer."""
    with asyncio.Runner() as runner:
        loop, server, wrong = runner.get_loop(), _Server(), []
        loop.set_exception_handler(lambda _, context: wrong.append(str(context)))
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        listening = loop.run_until_complete(asyncio.start_server(server, "127.0.0.1", 0))
        base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

        async def ask_as_agent() -> bytes:
            async with asyncio.timeout(SLOW):
                return await transport.get(base, messages.HEADS_PATH)

        async def ask_as_part() -> bytes:
            async with asyncio.timeout(SLOW), calling.session() as asking:
                return await calling.call(asking, "GET", base + messages.HEADS_PATH, LIMIT)

        def check(data: bytes) -> None:
            first, _, rest = data.partition(b"\n")
            mode = first.decode("latin-1")
            notice(mode)
            if mode == _PROBLEM:
                _check_error(transport._problem(400 + len(rest) % 200, rest))  # noqa: SLF001
            elif mode == _PART_PROBLEM:
                _check_error(problems.error_of(rest, problems.MEDIA_TYPE, rest[-8:].decode("latin-1")))
            elif mode == _DOCTOR:
                server.says = rest
                seen = loop.run_until_complete(probing.probe(base))
                assert seen.problem.isprintable()
                assert seen.offset is None or math.isfinite(seen.offset)
                notice(f"{seen.problem} {seen.offset is None}")
            elif mode in (_RAW, _PART):
                server.says = rest
                try:
                    said = loop.run_until_complete(ask_as_agent() if mode == _RAW else ask_as_part())
                except SpotError as error:
                    _check_error(error)
                else:
                    assert len(said) <= transport.MAX_BODY
                    notice("answered")
            assert not wrong, wrong

        yield check
        listening.close()
        loop.run_until_complete(listening.wait_closed())


def _check_error(error: SpotError) -> None:
    is_told_well(error, ours=False)
    if isinstance(error, Unreachable):
        assert 0 <= error.after <= transport.LONGEST_WAIT


TARGET = Target(
    name="answers",
    about="what a hostile server answers to an agent, and to another part of a backend",
    modules=(
        "agent.transport",
        "agent.doctor.probing",
        "backend_stub.network.calling",
        "backend_stub.network.problems",
    ),
    modes=(_RAW, _PART, _DOCTOR, _PROBLEM, _PART_PROBLEM),
    seeds=seeds,
    ready=ready,
    longest=8192,
    seconds=30,
)
