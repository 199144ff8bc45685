"""Fuzzing one target for a while: processes of libFuzzer on one growing corpus, then its sum."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scripts.fuzzing import corpus, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scripts.fuzzing.target import Target

MEMORY = 4096  # MB that a process may take
LEAVE = 120  # seconds that processes get to end after their time
_STATUS = re.compile(r"#(\d+)\t.*?cov: (\d+)")
_EXECUTED = re.compile(r"number_of_executed_units: (\d+)")


@dataclass(slots=True)
class Outcome:
    """What fuzzing one target came to.

    executions; seconds: of fuzzing; edges: libFuzzer's cov, of all rooms that the target imports; lines, branches:
    covered and all, of the target's own modules, by the whole corpus; inputs: of the corpus, summed up; new: of these,
    found now; crashes: inputs that made the check fail; said: how the output ended where that was not as usual.
    """

    target: str
    executions: int = 0
    seconds: float = 0.0
    edges: int = 0
    lines: tuple[int, int] = (0, 0)
    branches: tuple[int, int] = (0, 0)
    inputs: int = 0
    new: int = 0
    crashes: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was found, and everything went its way."""
        return not self.crashes and not self.said


class _Process:
    """One process of libFuzzer, and what it says."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.executions = 0
        self.edges = 0
        self.last: deque[str] = deque(maxlen=60)
        self._process = subprocess.Popen(
            command,
            cwd=corpus.ROOT,
            env=environment,
            stdout=subprocess.PIPE,  # tracebacks
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last.append(line)
            if found := _STATUS.match(line):
                self.executions, self.edges = int(found[1]), int(found[2])
            elif found := _EXECUTED.search(line):
                self.executions = int(found[1])

    @property
    def runs(self) -> bool:
        """Whether it is still at it."""
        return self._process.poll() is None

    def end(self) -> int:
        """Its exit code; it is stopped if it does not end."""
        try:
            self._process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join(5)
        return self._process.returncode


def fuzz(name: str, seconds: int, jobs: int, told: Callable[[Outcome], None]) -> Outcome:
    """Fuzz a target for so long in so many processes. told: is given the figures as they grow."""
    target = targets.load(name)
    folder, crashes = corpus.WORK / name / "corpus", corpus.WORK / name / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    _begin(target, folder)
    before = {path.name for path in corpus.inputs(folder)}
    known = set(crashes.iterdir())
    outcome = Outcome(name)
    with tempfile.TemporaryDirectory(prefix="spot-fuzz-") as scratch:
        environment = _environment(scratch)
        command = [*_worker(target), *_options(target, seconds), f"-artifact_prefix={crashes}/", str(folder)]
        began = time.monotonic()
        processes = [_Process(command, environment) for _ in range(jobs)]
        while any(one.runs for one in processes) and time.monotonic() < began + seconds + LEAVE:
            time.sleep(0.5)
            _count(outcome, processes, time.monotonic() - began)
            told(outcome)
        codes = [one.end() for one in processes]
        _count(outcome, processes, time.monotonic() - began)
        outcome.crashes = [
            str(path.relative_to(corpus.ROOT))
            for path in sorted(set(crashes.iterdir()) - known)
            if not path.name.startswith("slow-unit")
        ]
        if any(codes):
            outcome.said = next("".join(one.last) for one, code in zip(processes, codes, strict=True) if code)
            return outcome
        sum_up(target, folder, environment)
        outcome.inputs = len(corpus.inputs(folder))
        outcome.new = len({path.name for path in corpus.inputs(folder)} - before)
        _cover(outcome, folder, environment)
    return outcome


def _count(outcome: Outcome, processes: Sequence[_Process], seconds: float) -> None:
    outcome.executions = sum(one.executions for one in processes)
    outcome.edges = max(one.edges for one in processes)
    outcome.seconds = seconds


def _begin(target: Target, folder: Path) -> None:
    """Put in what there is to begin with: what is kept in the repository, and honest inputs."""
    list(corpus.write(folder, target.seeds()))
    list(corpus.write(folder, (path.read_bytes() for path in corpus.kept(target.name))))


def _worker(target: Target) -> list[str]:
    return [sys.executable, "-m", "scripts.fuzzing.worker", target.name]


def _options(target: Target, seconds: int) -> list[str]:
    return [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        f"-timeout={target.seconds}",
        f"-rss_limit_mb={MEMORY}",
        "-print_final_stats=1",
        "-reload=10",
    ]


def _environment(scratch: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(corpus.ROOT), "TMPDIR": scratch}


def sum_up(target: Target, folder: Path, environment: dict[str, str] | None = None, *options: str) -> None:
    """Keep the fewest inputs of a corpus that reach as much."""
    fewer = folder.with_name("fewer")
    shutil.rmtree(fewer, ignore_errors=True)
    fewer.mkdir()
    command = [*_worker(target), "-merge=1", f"-max_len={target.longest}", f"-timeout={target.seconds}", *options]
    done = subprocess.run(
        [*command, str(fewer), str(folder)], cwd=corpus.ROOT, env=environment, capture_output=True, check=False
    )
    if done.returncode or not corpus.inputs(fewer):
        raise SystemExit(f"the corpus of {target.name} cannot be summed up:\n{done.stderr.decode(errors='replace')}")
    shutil.rmtree(folder)
    fewer.rename(folder)


def _cover(outcome: Outcome, folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "scripts.fuzzing.covering", outcome.target, str(folder)]
    done = subprocess.run(command, cwd=corpus.ROOT, env=environment, capture_output=True, check=False)
    if done.returncode:
        outcome.said = done.stderr.decode(errors="replace")
        return
    lines, all_lines, branches, all_branches = json.loads(done.stdout)
    outcome.lines, outcome.branches = (lines, all_lines), (branches, all_branches)
