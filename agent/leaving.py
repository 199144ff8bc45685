"""What `spot leave` deletes of a data folder: everything but the settings, the key first."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from agent import database, moving, sealing, service
from agent import store as storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def is_left(folder: Path) -> bool:
    """Whether nothing is there any more; also of a leave that was cut short."""
    return not any(path.exists() for path in _files(folder)) and not any(folder.glob(f"{moving.WORK}*"))


def erase(folder: Path) -> None:
    """Delete all of it. Cut short, it is finished by doing it again."""
    _overwrite(folder / sealing.KEY_FILE)
    # The key first: without it the rest is noise already.
    sealing.forget_key(folder)
    for left_over in folder.glob(f"{moving.WORK}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    for path in _files(folder):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the settings stay
        folder.rmdir()


def _files(folder: Path) -> Iterator[Path]:
    yield folder / sealing.KEY_FILE
    for suffix in ("", "-wal", "-shm", "-journal"):
        yield folder / f"{storage.DATABASE}{suffix}"
    for lock in (service.LOCK, database.MAKING_LOCK):
        yield folder / lock


def _overwrite(key: Path) -> None:
    """Put zeros in the place of a key: on a disk that writes in place, what is deleted can be found otherwise."""
    with contextlib.suppress(OSError), key.open("r+b") as file:
        file.write(bytes(sealing.KEY_SIZE))
        file.flush()
        os.fsync(file.fileno())
