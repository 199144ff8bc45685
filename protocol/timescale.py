"""Sped-up time for demonstrations: how the machine's clock maps to the one that the parts live by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocol.errors import Misuse


@dataclass(frozen=True, slots=True)
class Timescale:
    """At `anchor` (the machine's seconds since 1970) it is `anchor + offset`; then time passes `speed` times as fast.

    The default is the machine's own time.
    """

    speed: float = 1.0
    anchor: float = 0.0
    offset: float = 0.0

    def at(self, real: float) -> float:
        """The time of this scale at this time of the machine, both in seconds since 1970."""
        return self.anchor + self.offset + (real - self.anchor) * self.speed

    def real_seconds(self, seconds: float) -> float:
        """How many seconds of the machine's time so many seconds of this scale take."""
        return seconds / self.speed

    def __str__(self) -> str:
        return f"{self.speed!r}@{self.anchor!r}/{self.offset!r}"


def read_timescale(text: str) -> Timescale:
    """A time scale from SPEED@ANCHOR or SPEED@ANCHOR/OFFSET, such as 120@1700000000; raises Misuse."""
    speed, _, rest = text.partition("@")
    anchor, _, offset = rest.partition("/")
    try:
        scale = Timescale(float(speed), float(anchor), float(offset or 0))
    except ValueError:
        raise Misuse(f"a clock is written SPEED@ANCHOR, such as 120@1700000000, not {text!r}") from None
    if not 1 <= scale.speed <= 10_000 or not math.isfinite(scale.anchor + scale.offset):
        raise Misuse("a clock's speed is between 1 and 10000, and its anchor a number of seconds since 1970")
    return scale
