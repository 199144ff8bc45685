"""Changing inputs so that they stay what they are, MessagePack or JSON, beside libFuzzer's own changes of bytes.

Raw changes of bytes seldom get past a length or a type. Here a field, an item or a whole branch is changed, left out,
doubled, exchanged for another, or filled with what is at the edge of its type; within bytes that are a message
themselves, too.
"""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from scripts.fuzzing.target import with_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Havoc: TypeAlias = Callable[[bytes, int], bytes]

NUMBERS = (0, 1, -1, -2, 2, 127, 255, 256, 1024, 8192, 10**6, 10**11, 2**31, 2**31 + 1, 2**32, 2**63 - 1, 2**64 - 1)
FRACTIONS = (0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, 1e308, 200.0, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "\n", "\0", "north\n", "x" * 33, "x" * 301, "\x1b[2J", "\u202e", "\ud7ff", "http://", "https://a\n")
ANYTHING: tuple[Any, ...] = (None, True, False, 0, -1, 1.5, "", b"", [], {}, [[]], b"\0" * 32, b"\xff" * 48)
CHANGES = 4  # of one input at most
LONGEST_LIST = 64


def mutator(modes: Sequence[str], havoc: Havoc) -> Callable[[bytes, int, int], bytes]:
    """What atheris asks for other inputs: (input, most bytes, seed) → input. havoc: libFuzzer's own changes."""

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if not modes:
            return havoc(data, most)
        mode, _, rest = data.partition(b"\n")
        text = mode.decode("latin-1")
        if text not in modes or not chance.randrange(20):
            text = chance.choice(modes)
        room = max(most - len(text) - 1, 0)
        changed = _structured(rest, room, chance, havoc) if chance.randrange(3) else None
        return with_mode(text, havoc(rest, room) if changed is None else changed)[:most]

    return mutate


def _structured(data: bytes, most: int, chance: random.Random, havoc: Havoc) -> bytes | None:
    """The same message, changed; None where it is no message, or would not fit."""
    format_: Any = msgspec.json if data[:1] == b"{" else msgspec.msgpack
    try:
        tree = {"": format_.decode(data)}
        for _ in range(chance.randint(1, CHANGES)):
            _change(tree, chance, havoc)
        changed: bytes = format_.encode(tree[""])
    except (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, UnicodeError, ValueError):
        return None
    return changed if len(changed) <= most else None


def _change(tree: Any, chance: random.Random, havoc: Havoc) -> None:
    places = list(_places(tree))
    if not places:
        return
    parent, key = chance.choice(places)
    value = parent[key]
    kind = chance.randrange(12)
    if kind == 0:
        other, there = chance.choice(places)
        parent[key] = copy.deepcopy(other[there])  # a copy: it may hold this very place
    elif kind == 1:
        parent[key] = copy.deepcopy(chance.choice(ANYTHING))
    elif kind == 2 and (isinstance(parent, list) or "" not in parent):
        del parent[key]
    elif kind == 3 and isinstance(parent, list) and len(parent) < LONGEST_LIST:
        parent.insert(chance.randrange(len(parent) + 1), copy.deepcopy(value))
    elif kind == 4 and isinstance(parent, dict) and "" not in parent:
        parent[chance.choice([str(key)[:-1], f"{key}x", "number", "day", 1])] = copy.deepcopy(value)
    else:
        parent[key] = _other(value, chance, havoc)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every field and item, as what holds it and where."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from _places(value)


def _other(value: Any, chance: random.Random, havoc: Havoc) -> Any:
    """A value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return chance.choice((value + 1, value - 1, -value, value ^ 1 << chance.randrange(40), *NUMBERS))
        case float():
            return chance.choice((value * 2, value / 3, -value, int(value) if abs(value) < 2**63 else 0, *FRACTIONS))
        case str():
            return chance.choice((value + "\n", value.upper(), value[1:], value * 2, *TEXTS))
        case bytes():
            return _other_bytes(value, chance, havoc)
        case list():
            return chance.choice((value[::-1], value[:-1], value + value[:1], value * 2 if len(value) < 32 else [], []))
        case dict():
            return dict(reversed(value.items()))
    return copy.deepcopy(chance.choice(ANYTHING))


def _other_bytes(value: bytes, chance: random.Random, havoc: Havoc) -> bytes:
    inner = _structured(value, 2 * len(value) + 64, chance, havoc) if len(value) > 64 and chance.randrange(4) else None
    if inner is not None:
        return inner
    match chance.randrange(6):
        case 0:
            return value[: chance.randrange(len(value) + 1)]
        case 1:
            return value + bytes(chance.randrange(1, 20))
        case 2 if value:
            at = chance.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
        case 3:
            return chance.choice((b"\0", b"\xff", b"\xc0" + bytes(31))) * len(value)
        case _:
            return havoc(value, len(value) + 16)[: len(value) if chance.randrange(4) else None]
