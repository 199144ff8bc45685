"""What is fuzzed: one parser, or several that take the same bytes, and what must hold of them.

An input begins with a line that names how the rest is taken (its mode), so that a kept input can be read, and goes on
to mean the same when modes are added.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from protocol.errors import SpotError

Check: TypeAlias = Callable[[bytes], None]
"""Takes one input. Raises nothing: whatever comes out, but for errors that the project expects, is a find."""

_STRANGERS = re.compile(r"unknown field .*|\d+|`[^$`][^`]*`?|'[^']*'?")  # what of an error's text was in the input
_LONGEST_TEXT = 600  # characters of an error: none repeats a stranger's bytes at length


@dataclass(frozen=True, slots=True)
class Target:
    """One subject of fuzzing.

    name; about: a line; modules: those whose lines are counted as covered; modes: first lines of inputs; seeds:
    honest inputs, made by the project's own code; ready: gives the check, and holds what it needs open; longest: bytes
    of an input; seconds: that one input may take.
    """

    name: str
    about: str
    modules: tuple[str, ...]
    modes: tuple[str, ...]
    seeds: Callable[[], Iterable[bytes]]
    ready: Callable[[], AbstractContextManager[Check]]
    longest: int = 4096
    seconds: int = 20


def with_mode(mode: str, data: bytes) -> bytes:
    """An input that is taken in this way."""
    return mode.encode() + b"\n" + data


def by_mode(checks: Mapping[str, Check]) -> AbstractContextManager[Check]:
    """A check that looks at an input's mode; nothing happens where there is no such mode."""

    def check(data: bytes) -> None:
        mode, _, rest = data.partition(b"\n")
        name = mode.decode("latin-1")
        chosen = checks.get(name)
        if chosen is not None:
            notice(name)
            chosen(rest)
            notice(f"{name} to the end")

    return nullcontext(check)


def is_told_well(error: SpotError, *, ours: bool = True) -> None:
    """Check that an expected error is one for people: printable, of bounded length.

    ours: whether this project says it; else it is what the other side wrote, and nothing new for being another text.
    """
    assert error.text, "an error says something"
    assert len(error.text) < _LONGEST_TEXT, "an error repeats no more than a little of what was sent"
    assert error.text.isprintable(), "a stranger's bytes steer no terminal and forge no line of a log"
    notice(_STRANGERS.sub("0", error.text) if ours else type(error).__name__)


listeners: list[Callable[[str], None]] = []
"""Who is told what inputs lead to."""


def notice(what: str) -> None:
    """Say what an input led to: one that leads to something new is worth going on from.

    libFuzzer sees which branches of Python are taken, and nothing of what happens inside libraries.
    """
    for one in listeners:
        one(what)


class Reader:
    """Numbers and pieces off the front of an input; zeros and nothing once it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def number(self, below: int) -> int:
        """A number from one byte."""
        return int.from_bytes(self.take(1), "big") % below

    def piece(self) -> bytes:
        """Bytes behind their length (one byte)."""
        return self.take(self.number(256))
