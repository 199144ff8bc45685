"""Inputs that are kept: in the repository few and small ones, at work all that reach something new."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "tests" / "corpora"
WORK = ROOT / ".cache" / "fuzz"


def kept(name: str) -> list[Path]:
    """The inputs of this target in the repository."""
    return inputs(KEPT / name)


def inputs(folder: Path) -> list[Path]:
    """The inputs in a folder, none if there is no such folder."""
    return sorted(path for path in folder.glob("*") if path.is_file())


def write(folder: Path, data: Iterable[bytes]) -> Iterator[Path]:
    """Inputs as files of a folder, named by their content as libFuzzer names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in data:
        path = folder / hashlib.sha1(one, usedforsecurity=False).hexdigest()
        path.write_bytes(one)
        yield path


def is_named(path: Path) -> bool:
    """Whether somebody named this input: it once failed, and stays whatever it reaches."""
    return len(path.name) != 40 or set(path.name) - set("0123456789abcdef") != set()
