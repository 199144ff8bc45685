"""The time that the parts live by: every date, expiry and schedule. Network timeouts stay in the machine's seconds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from protocol.encounter import day_of

if TYPE_CHECKING:
    from protocol.timescale import Timescale


class Clock(Protocol):
    """What a part asks of its clock."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock."""
        ...


class ScaledClock:
    """The machine's clock, sped up by a time scale for demonstrations."""

    def __init__(self, scale: Timescale) -> None:
        self._scale = scale

    def now(self) -> float:
        """Seconds since 1970."""
        return self._scale.at(time.time())

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock."""
        await asyncio.sleep(self._scale.real_seconds(seconds))


def today(clock: Clock) -> int:
    """The UTC day it is."""
    return day_of(clock.now())
