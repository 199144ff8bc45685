"""A backend's parts as processes of their own, as an operator runs them: started, killed, and what they cost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from backend_stub import settings
from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Part:
    """One process of a part, of which there may be several.

    before: words to run it with, such as `ip netns exec`; watch_port: where it tells its metrics, if it is to.
    """

    def __init__(
        self, folder: Path, number: int = 1, logs: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """logs: where what it says goes; environment: added to that of this process."""
        self.folder = folder
        self.name = f"{folder.name} {number}"
        self.log = (logs or folder.parent) / f"{folder.name}-{number}.log"
        self.before: tuple[str, ...] = ()
        self.watch_port = 0
        self._environment = os.environ | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process' number; 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; `answering` waits for it."""
        watched = ["--watch-port", str(self.watch_port)] if self.watch_port else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.before, *command(self.folder), *watched], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ask it to go, and wait."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def metrics(self) -> dict[str, float]:
        """Its metrics now, by their names with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.watch_port}/metrics", timeout=10) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    async def answering(self) -> None:
        """Wait until it takes connections. Raises Misuse where it ends instead, or takes too long."""
        told = settings.read_part(self.folder)
        until = time.monotonic() + START_SECONDS
        while self.runs and time.monotonic() < until:
            if await _connects(told.host, told.port):
                return
            await asyncio.sleep(0.05)
        said = self.log.read_text(errors="replace")[-1000:] if self.log.exists() else ""
        raise Misuse(f"{self.name} does not start; it said: {said}")


def command(folder: Path) -> list[str]:
    """What an operator types to run the part of this folder."""
    kind = folder.name.partition("-")[0]
    return [str(Path(sys.executable).with_name("spot-backend")), kind, "run", str(folder)]


async def _connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


# --- what processes cost ---


def processor_seconds(root: int) -> float:
    """User and system time of this process and all below it, those included that have ended and were waited for."""
    stats = dict(filter(None, map(_stat, Path("/proc").glob("[0-9]*/stat"))))
    wanted, total = [root], 0
    while wanted:
        pid = wanted.pop()
        if pid in stats:
            total += stats[pid][1]
            wanted.extend(child for child, (parent, _) in stats.items() if parent == pid)
    return total / TICKS


def below(root: int) -> list[int]:
    """The processes that this one started, and so on."""
    stats = dict(filter(None, map(_stat, Path("/proc").glob("[0-9]*/stat"))))
    found: list[int] = []
    wanted = [root]
    while wanted:
        pid = wanted.pop()
        children = [child for child, (parent, _) in stats.items() if parent == pid]
        found += children
        wanted += children
    return found


def _stat(file: Path) -> tuple[int, tuple[int, int]] | None:
    """(process, (its parent, ticks)) of a line in /proc."""
    try:
        fields = file.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(file.parent.name), (int(fields[1]), sum(map(int, fields[11:15])))
