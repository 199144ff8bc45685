"""A process that may open few files: its doors share them, and idle connections use none of the others' up."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web as http

from agent import transport
from backend_stub import settings
from backend_stub.network import listening, web
from backend_stub.network.descriptors import SPARE, shares
from backend_stub.operations.running import Backend
from protocol import messages
from protocol.errors import Unreachable
from tests.backend_stub import support
from tests.backend_stub.processes import PROGRAM
from tests.backend_stub.test_limits import connect

if TYPE_CHECKING:
    import pytest

FILES = 600


def test_doors_share_what_there_is() -> None:
    assert shares(float("inf"), [2000, 2000]) == [2000, 2000]
    assert shares(4000 + 2 * SPARE, [2000, 2000]) == [2000, 2000]
    assert shares(1024, [2000, 2000, 2000, 2000]) == [128] * 4, "half of it is spare"
    assert shares(1024, [3000, 1000]) == [384, 128]
    assert shares(2, [2000] * 4) == [1] * 4
    assert shares(1024, []) == []


def files_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def answers(base: str) -> bool:
    with contextlib.suppress(Unreachable):
        return bool(await transport.get(base, messages.HEADS_PATH))
    return False


async def test_idle_connections_to_one_part_leave_the_others_their_files(tmp_path: Path) -> None:
    folder, log = tmp_path / "backend", tmp_path / "log"
    await support.found(folder, support.ManualClock(), support.PLAN)
    backend = Backend(folder)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); {PROGRAM}"
    with log.open("wb") as said:
        up = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", limited, "up", str(folder)), stdout=said, stderr=said
        )
    held = []
    try:
        for proxy in backend.proxies.values():
            await support.eventually(partial(answers, proxy))
        for proxy in backend.proxies.values():
            held += [await connect(proxy, b"GET /v1/he") for _ in range(350)]
        for base in (*backend.proxies.values(), backend.authority) * 3:
            assert await answers(base)
        assert files_of(up.pid) < FILES - 100
        assert "no more files" not in log.read_text()
    finally:
        for _, writer in held:
            writer.transport.abort()
        up.send_signal(signal.SIGTERM)
        await up.wait()


async def test_without_files_connections_wait_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fetch(_request: http.Request) -> http.Response:
        return web.answer_bytes(b"")

    with socket.create_server(("127.0.0.1", 0)) as free:
        told = settings.Settings(port=free.getsockname()[1])
    app = web.application([http.get("/", fetch)], told)
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening.listening(app, app[web.DOOR], told, "a part"):
        asking = [socket.socket() for _ in range(3)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(one.fileno() for one in asking) + 1, hard))
            for one in asking:
                one.setblocking(False)
                await loop.sock_connect(one, (told.host, told.port))
                one.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(2 * listening.PAUSE_SECONDS)
            assert ["no more files" in one.getMessage() for one in caplog.records].count(True) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in asking:
            async with asyncio.timeout(10):
                assert await loop.sock_recv(one, 15) == b"HTTP/1.1 200 OK"
            one.close()
