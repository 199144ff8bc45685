"""Timing a thing and its floor in turns, so that what else this machine does hits both alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST = 0.02  # s; shorter runs are timed several at once
FEWEST, MOST = 5, 51  # rounds


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds, in seconds a run; `ratio` is the median of the rounds' own ratios."""

    measured: float
    floor: float
    ratio: float
    rounds: int


def time_in_turns(
    run: Callable[[], None], floor: Callable[[], None], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Time both in turns for about so many seconds, for at least five rounds."""
    once = _time(run, 1, clock)
    times = max(1, math.ceil(SHORTEST / once))
    rounds = min(MOST, max(FEWEST, int(seconds / (2 * times * once))))
    measured, floors = [], []
    for turn in range(rounds):
        # Who goes first changes, so that neither always finds the caches warm.
        if turn % 2:
            floors.append(_time(floor, times, clock))
            measured.append(_time(run, times, clock))
        else:
            measured.append(_time(run, times, clock))
            floors.append(_time(floor, times, clock))
    ratios = [one / other for one, other in zip(measured, floors, strict=True)]
    return Timing(statistics.median(measured), statistics.median(floors), statistics.median(ratios), rounds)


def _time(run: Callable[[], None], times: int, clock: Callable[[], float]) -> float:
    gc.collect()
    start = clock()
    for _ in range(times):
        run()
    return (clock() - start) / times
