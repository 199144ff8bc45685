"""How near a peer was, over time: from attenuations to a probability for every distance.

Bodies, pockets and fading make a reading weaker than the distance alone would, by 10 dB and more, and hardly ever
stronger. So the strongest tenth of some minutes' readings tells the distance, where their mean tells how people stood.
Its attenuation grows with the logarithm of the distance (log-distance path loss), with an error that is normal in dB:
the distance is then log-normal, and each question about it has a closed answer. docs/exposure.md says where the
numbers come from, and how well this does on recordings.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from agent.samples import SAMPLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.samples import Sample

AT_ONE_METRE = 48.0
"""dB that the strongest readings lose over 1 m: 40.2 in free space at 2.44 GHz, the rest in cases and antennas."""
EXPONENT = 2.0
"""Of path loss: 2 in free space, 1.4 to 2.2 measured in rooms."""
SPREAD = 7.0
"""Standard deviation of the strongest readings' attenuation at one distance, dB: 6 to 8 in rooms."""
STRONGEST = 0.1
"""The share of readings that tells the distance."""
REACH = 300.0
"""Seconds to either side whose readings count: people change their distance slowly, and how they turn quickly."""
SMOOTHING = 30.0
"""Seconds to either side over which attenuation is averaged for attenuation bands."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of an encounter, from one sample to the next.

    at: seconds since 1970; seconds: how long it counts; attenuation: mean of the readings around it, dB; strongest:
    that of the strongest tenth of those within some minutes, dB.
    """

    at: float
    seconds: float
    attenuation: float
    strongest: float


def moments(samples: Sequence[Sample], gap: float) -> list[Moment]:
    """An encounter's time, sample by sample: each lasts until the next, for `gap` seconds at most."""
    means, strong = _means(samples), _strongest(samples)
    ends = [sample.at for sample in samples[1:]]
    lengths = [min(end - sample.at, gap) for sample, end in zip(samples, ends, strict=False)]
    lengths += [min(SAMPLE_SECONDS, gap)] * bool(samples)
    return [
        Moment(sample.at, seconds, mean, strongest)
        for sample, seconds, mean, strongest in zip(samples, lengths, means, strong, strict=True)
    ]


def probability_within(strongest: float, metres: float) -> float:
    """The probability of a distance of at most so many metres, where the strongest readings have this attenuation."""
    centre, spread = _log_distance(strongest)
    return _below((math.log(metres) - centre) / spread)


def expected_weight(strongest: float, within: float, falloff: float) -> float:
    """The mean of 1 up to `within` metres and of (within / distance) ** falloff beyond; a falloff of 0: of 0 beyond."""
    near = probability_within(strongest, within)
    if not falloff:
        return near
    centre, spread = _log_distance(strongest)
    # The mean of a power of a log-normal variable beyond a bound.
    shift = centre - falloff * spread**2
    beyond = _below((shift - math.log(within)) / spread)
    scale = falloff * (math.log(within) - centre) + (falloff * spread) ** 2 / 2
    return min(near + beyond * math.exp(scale), 1.0)


def _log_distance(strongest: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the distance in metres."""
    decade = 10 * EXPONENT
    return (strongest - AT_ONE_METRE) / decade * math.log(10), SPREAD / decade * math.log(10)


def _below(deviations: float) -> float:
    """The normal distribution function."""
    return math.erfc(-deviations / math.sqrt(2)) / 2


def _strongest(samples: Sequence[Sample]) -> list[float]:
    found: list[float] = []
    within: list[float] = []  # the attenuations within reach, in order
    start = end = 0
    for sample in samples:
        while end < len(samples) and samples[end].at <= sample.at + REACH:
            insort(within, samples[end].attenuation)
            end += 1
        while samples[start].at < sample.at - REACH:
            del within[bisect_left(within, samples[start].attenuation)]
            start += 1
        found.append(_tenth(within))
    return found


def _tenth(ordered: Sequence[float]) -> float:
    """The strongest tenth's bound. One reading never decides alone: the second counts at least, of two the mean."""
    last = len(ordered) - 1
    place = min(max(STRONGEST * last, 1.0), last / 2)
    below = int(place)
    above = min(below + 1, last)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _means(samples: Sequence[Sample]) -> list[float]:
    means = []
    start = end = 0
    for sample in samples:
        while samples[start].at < sample.at - SMOOTHING:
            start += 1
        while end < len(samples) and samples[end].at <= sample.at + SMOOTHING:
            end += 1
        means.append(fmean(near.attenuation for near in samples[start:end]))
    return means
