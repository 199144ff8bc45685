"""Processes of a test's own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def child(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`python -m` this, killed at the end if it still runs."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children_at_once(*commands: tuple[object, ...]) -> list[list[str]]:
    """What these of `tests.agent.children` print, who begin at the same moment and end well."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(child("tests.agent.children", *command)) for command in commands]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        return [finish(process) for process in processes]


def finish(process: subprocess.Popen[str]) -> list[str]:
    """The lines it prints until its end, which is a good one."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output.splitlines()
