"""A process that has parts of a backend: `python -m scripts.benchmarks.replay.worker FOLDER CLOCK`.

Its time stands in the file CLOCK, where the bench moves it on. It is told what to do by lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import struct
import sys
import time
from pathlib import Path
from typing import Any

from backend_stub.authority import chains, join, report
from backend_stub.authority import service as authority
from backend_stub.operations.running import AUTHORITY, Backend

POLL = 0.05  # real seconds between two looks at the time
_TIME = struct.Struct("<d")


class SharedClock:
    """The bench's time, which stands still until the bench moves it on."""

    def __init__(self, file: Path) -> None:
        """Use this file, made by `make`."""
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _TIME.size)

    @staticmethod
    def make(file: Path, at: float) -> SharedClock:
        """A clock in a new file."""
        file.write_bytes(_TIME.pack(at))
        return SharedClock(file)

    def set(self, at: float) -> None:
        """Let it be so late (seconds since 1970)."""
        _TIME.pack_into(self._memory, 0, at)

    def now(self) -> float:
        """Seconds since 1970."""
        (at,) = _TIME.unpack_from(self._memory)
        return float(at)

    async def sleep(self, seconds: float) -> None:
        """Return once the bench has moved the time on that far."""
        until = self.now() + seconds
        while self.now() < until:  # noqa: ASYNC110 (nobody tells across processes)
            await asyncio.sleep(POLL)


async def work(folder: Path, clock: SharedClock) -> None:
    """Do what the lines say, until there are no more."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    backend = Backend(folder, clock)
    try:
        while line := await reader.readline():
            print(json.dumps(await _do(backend, clock, json.loads(line))), flush=True)
    finally:
        await backend.stop_all()


async def _do(backend: Backend, clock: SharedClock, asked: dict[str, Any]) -> Any:
    if asked["do"] == "start":
        return await backend.start(asked["part"])
    if asked["do"] == "stop":
        return await backend.stop(asked["part"])
    if asked["do"] == "cpu":
        return time.process_time()
    return await _office(backend.folder / AUTHORITY, clock, asked)


async def _office(folder: Path, clock: SharedClock, asked: dict[str, Any]) -> Any:
    """What people do at the authority."""
    async with authority.opened(folder, clock) as office:
        if asked["do"] == "invite":
            return await join.invite(office, asked["count"])
        if asked["do"] == "code":
            return await report.make_code(office, asked["onset"], asked["seconds"])
        return (await office.database.run(chains.heads)).publications.number


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), SharedClock(Path(sys.argv[2]))))
