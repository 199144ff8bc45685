"""What tests do with a store in several processes: `python -m tests.agent.children NAME FOLDER ...`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from agent.kept import Encounter
from agent.samples import Sample
from agent.store import create_store, open_store


def at_once() -> None:
    """Say that this one is ready, and wait until all are."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def write(folder: Path, name: str, count: str) -> None:
    """Keep so many encounters, one at a time."""
    store = open_store(folder, "file")
    at_once()
    for number in range(int(count)):
        secret = hashlib.sha256(f"{name} {number}".encode()).digest()
        store.keep_encounters([Encounter(secret, 0, 0, 0.0, 60.0, (Sample(0.0, 50.0),))])
        store.put(name, number)
    store.close()


def lease(folder: Path, until: str) -> None:
    """Try to take every due encounter; print those that were got."""
    store = open_store(folder, "file")
    due = store.due_encounters(float(until))
    at_once()
    for one in due:
        if store.lease(one, float(until) * 2):
            sys.stdout.write(f"{one.id}\n")
    store.close()


def make(folder: Path) -> None:
    """Make the store, or find it made."""
    at_once()
    create_store(folder, "file", bytes).close()


if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    if name == "write":
        write(Path(folder), *rest)
    elif name == "lease":
        lease(Path(folder), *rest)
    else:
        make(Path(folder))
