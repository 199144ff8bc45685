"""The device's clock: the machine's own, or one that runs faster for demonstrations."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from protocol.encounter import SECONDS_A_DAY
from protocol.timescale import Timescale


@dataclass(frozen=True, slots=True)
class Clock:
    """Tells the time and lets it pass; keeps to what `ble.radio.Clock` asks for."""

    scale: Timescale = field(default_factory=Timescale)

    def now(self) -> float:
        """Seconds since 1970."""
        return self.scale.at(time.time())

    async def sleep(self, seconds: float) -> None:
        """Return once that many seconds of this clock have passed."""
        await asyncio.sleep(max(self.scale.real_seconds(seconds), 0))


def day_text(day: int) -> str:
    """A UTC day number as 2026-11-22."""
    return datetime.fromtimestamp(day * SECONDS_A_DAY, UTC).date().isoformat()


def day_number(text: str) -> int:
    """The UTC day number of 2026-11-22. Raises ValueError."""
    return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() // SECONDS_A_DAY)


def time_text(at: float) -> str:
    """Seconds since 1970 as 2026-11-22 09:41 in the machine's time zone."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


class _Timex(ctypes.Structure):
    """The beginning of the kernel's `struct timex`, with more room than the rest of it takes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 512),
    )


def clock_synchronised() -> bool | None:
    """Whether something keeps the machine's clock right; None where that cannot be told.

    As systemd-timedated does, the kernel is asked for its largest possible error, which grows to 16 s when nobody
    corrects it; whether the clock's chip is written (STA_UNSYNC) says something else.
    """
    if sys.platform != "linux":
        return None
    state = _Timex()
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else bool(state.maxerror < 16_000_000)
