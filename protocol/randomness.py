"""Random numbers, drawn from a source that is handed in, so that tests own it."""

from __future__ import annotations

from collections.abc import Callable

from protocol.curve import ORDER

Random = Callable[[int], bytes]
"""Gives that many unpredictable bytes: `secrets.token_bytes` everywhere but in tests."""

WEIGHT_BITS = 128


def scalar(random: Random) -> int:
    """A uniform scalar in 1..r-1."""
    return int.from_bytes(random(48), "big") % (ORDER - 1) + 1


def weight(random: Random) -> int:
    """A batch weight in 1..2^128-1; a zero, which would drop an equation, is never drawn."""
    return int.from_bytes(random(WEIGHT_BITS // 8), "big") or 1
