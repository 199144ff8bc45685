"""The device's clock: the machine's own, or one that runs faster for demonstrations."""

from __future__ import annotations

import asyncio
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
