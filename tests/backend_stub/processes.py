"""Parts as processes of their own, as an operator runs them."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROGRAM = "from backend_stub.cli import main; main()"


@dataclass
class Part:
    """A process of a part; `log`: what it says."""

    process: asyncio.subprocess.Process
    log: Path

    async def says(self, words: str) -> None:
        """Wait until it says so."""
        async with asyncio.timeout(60):
            while words not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def terminate(self) -> None:
        """SIGTERM, and wait for its end."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await self.process.wait() == 0, self.log.read_text()

    def answered(self) -> tuple[int, int]:
        """How many requests it says it answered, and took."""
        (found,) = re.findall(r"answered (\d+) of (\d+) requests", self.log.read_text())
        return int(found[0]), int(found[1])


class Processes:
    """Starts them."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self.parts: list[Part] = []

    async def start(self, part: str, *options: str) -> Part:
        """One more process of this part, once it answers and knows the parameters."""
        kind = part.partition("-")[0]
        log = self._logs / f"{len(self.parts)}-{part}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, kind, "run", str(self._folder / part), *options),
                stdout=output,
                stderr=output,
            )
        started = Part(process, log)
        self.parts.append(started)
        await started.says("listens at")
        if kind != "authority":
            await started.says("keeps to the authority's parameters")
        return started


@asynccontextmanager
async def processes(folder: Path, logs: Path) -> AsyncIterator[Processes]:
    """Those that still run at the end are killed."""
    made = Processes(folder, logs)
    try:
        yield made
    finally:
        for part in made.parts:
            with suppress(ProcessLookupError):
                part.process.kill()
            await part.process.wait()
