"""How much of a radio signal arrives: distance, walls, fading. Pure functions of places in metres.

The model is log-distance path loss (Rappaport, Wireless Communications): the loss of free space over the
first metre, then 10 · exponent dB for each tenfold distance, with normally distributed fading on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

Place: TypeAlias = tuple[float, float]  # x and y in metres

NEAREST = 0.1  # metres; nearer than this the model would promise more than was sent


@dataclass(frozen=True, slots=True)
class Wall:
    """A straight wall between two places, and what a signal loses on its way through it (dB)."""

    start: Place
    end: Place
    loss: float = math.inf  # opaque


@dataclass(frozen=True, slots=True)
class Propagation:
    """How a signal gets weaker.

    first_metre: dB lost over the first metre (free space at 2.44 GHz: 20 · log10(4π · 1 m / 0.123 m) = 40.2)
    exponent: 2 in the open, 1.8 in a corridor, 3 in a crowd
    fading: standard deviation of a single reception from the mean, dB
    """

    first_metre: float = 40.2
    exponent: float = 2.0
    fading: float = 3.0

    def loss(self, here: Place, there: Place, walls: Iterable[Wall] = ()) -> float:
        """Return the mean loss from here to there, dB; infinite behind an opaque wall."""
        distance = max(math.dist(here, there), NEAREST)
        through = sum(wall.loss for wall in walls if crosses(here, there, wall))
        return self.first_metre + 10 * self.exponent * math.log10(distance) + through

    def faded(self, loss: float, chance: random.Random) -> float:
        """Return the loss that one reception of this mean loss meets, dB."""
        return loss + chance.gauss(0.0, self.fading)


def crosses(here: Place, there: Place, wall: Wall) -> bool:
    """Whether the way from here to there leads through the wall; touching its end counts."""
    return (
        _side(wall.start, wall.end, here) * _side(wall.start, wall.end, there) <= 0
        and _side(here, there, wall.start) * _side(here, there, wall.end) <= 0
        and here != there
        and not _in_line(here, there, wall)
    )


def _side(start: Place, end: Place, point: Place) -> float:
    """Positive where the point lies to the left of the line from start to end, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _in_line(here: Place, there: Place, wall: Wall) -> bool:
    # Along a wall there is nothing to get through.
    return _side(here, there, wall.start) == 0 == _side(here, there, wall.end)
