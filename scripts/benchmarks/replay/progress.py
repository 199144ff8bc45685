"""What is kept of a replay after each day: figures, and a copy of all stores and databases to go on from."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from scripts.benchmarks.replay.truth import Declared, Entry  # noqa: TC001 - msgspec reads the types of fields

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIVE, KEPT, FRESH, FORMER = "live", "kept", "kept.new", "kept.old"
LOCK = "replay.lock"
PROGRESS = "progress.json"


class Progress(msgspec.Struct, kw_only=True):
    """What is kept of a replay after each day. cpu: processor seconds, by part; real: seconds that it took."""

    days: int = 0
    declared: list[Declared] = msgspec.field(default_factory=list)
    warned: dict[str, float] = msgspec.field(default_factory=dict)
    ledger: dict[str, dict[str, Entry]] = msgspec.field(default_factory=dict)
    cpu: dict[str, float] = msgspec.field(default_factory=dict)
    sent: int = 0
    received: int = 0
    connections: int = 0
    outages: int = 0
    hours_away: float = 0.0
    real: float = 0.0


def read_progress(folder: Path) -> Progress:
    """How far the replay in this folder is."""
    file = folder / KEPT / PROGRESS
    return msgspec.json.decode(file.read_bytes(), type=Progress) if file.exists() else Progress()


def keep(folder: Path, progress: Progress) -> None:
    """Keep a copy of stores, databases and figures as they are now; nobody may write meanwhile."""
    (folder / LIVE / PROGRESS).write_bytes(msgspec.json.encode(progress))
    shutil.rmtree(folder / FRESH, ignore_errors=True)
    shutil.copytree(folder / LIVE, folder / FRESH, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
    if (folder / KEPT).exists():
        (folder / KEPT).rename(folder / FORMER)
    (folder / FRESH).rename(folder / KEPT)
    shutil.rmtree(folder / FORMER, ignore_errors=True)


@contextlib.contextmanager
def restored(folder: Path) -> Iterator[Path]:
    """The folder to live in, as it was kept. Raises filelock.Timeout where the same replay is being run already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(folder / LOCK, timeout=0, mode=0o600):
        if (folder / FORMER).exists() and not (folder / KEPT).exists():
            (folder / FORMER).rename(folder / KEPT)
        shutil.rmtree(folder / LIVE, ignore_errors=True)
        if (folder / KEPT).exists():
            shutil.copytree(folder / KEPT, folder / LIVE)
        (folder / LIVE).mkdir(mode=0o700, exist_ok=True)
        yield folder / LIVE
