"""When to listen: always, or in windows with pauses between them, so that a battery lasts. Sending goes on meanwhile.

Listening is what costs: a receiver draws about as much as a sender, and sending takes a thousandth of the time. So a
device on a battery listens for some seconds every minute or two, at times that are drawn, so that nobody is missed
again and again. A window is made longer where somebody was heard in it whose block is not complete: for each peer
that happens about once an epoch, and it leaves the other windows short.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from ble.radio import Clock

STEP = 1.0  # seconds between two looks at whether a window is to go on
CHECK = 60.0  # seconds between two looks at whether to listen always is still wanted


@dataclass(frozen=True, slots=True)
class Duty:
    """How a radio listens.

    window: seconds listened, the start of the scan included; infinite: always
    longest: seconds a window may last where somebody's block is not complete
    pause: seconds between two windows, at least and at most
    """

    name: str
    window: float = math.inf
    longest: float = math.inf
    pause: tuple[float, float] = (0.0, 0.0)

    @property
    def round(self) -> float:
        """The most seconds from the end of a window to the end of the next one; 0 for a duty without pauses."""
        return 0.0 if math.isinf(self.window) else self.pause[1] + self.longest


MAINS = Duty("mains")
# Two devices on batteries, 30 % of single advertisements lost: of contacts of 5 minutes 8 in 100 are missed, of 10
# minutes none, listening for 4 to 5 % of the time (scripts/bench energy). Pauses of 2 to 5 minutes would miss 92 and 21
# in 100, and leave readings further apart than the 2 minutes for which risk takes one to last.
BATTERY = Duty("battery", window=4.0, longest=12.0, pause=(60.0, 120.0))


async def listen_by(
    duty: Callable[[], Duty],
    listen: Callable[[], Awaitable[None]],
    wanted: Callable[[float], bool],
    clock: Clock,
    chance: random.Random,
) -> None:
    """Run `listen`, which goes on until cancelled, at the times of a duty; until cancelled.

    duty is asked before each window, and now and then in one without end: a machine may be plugged in meanwhile.
    wanted: whether a window that began at this time (Unix seconds) should go on. What `listen` raises is raised, in a
    group.
    """
    while True:
        now = duty()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_run(listen), name="listening")
            await _pass_window(now, duty, wanted, clock)
            task.cancel()
        await clock.sleep(chance.uniform(*now.pause))


async def _run(listen: Callable[[], Awaitable[None]]) -> None:
    await listen()


async def _pass_window(now: Duty, duty: Callable[[], Duty], wanted: Callable[[float], bool], clock: Clock) -> None:
    # Seconds are counted, not read from the clock, which may be set meanwhile.
    if math.isinf(now.window):
        while duty() == now:
            await clock.sleep(CHECK)
        return
    begun = clock.now()
    await clock.sleep(now.window)
    listened = now.window
    while listened < now.longest and wanted(begun):
        await clock.sleep(STEP)
        listened += STEP
