"""From encounters and publications to a risk: minutes in attenuation bands, weighted, summed per day."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from agent.samples import SAMPLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.samples import Sample
    from agent.store import Encounter, Exposure
    from protocol.messages import Risk

SMOOTHING = 30.0
"""Seconds to either side over which attenuation is averaged: single readings scatter by 6 to 8 dB indoors."""


@dataclass(frozen=True, slots=True)
class DayRisk:
    """One day's risk. minutes: in bands that count; score: weighted minutes; warning: at the threshold or over."""

    day: int
    encounters: int
    minutes: float
    score: float
    warning: bool


def band_seconds(samples: Sequence[Sample], risk: Risk) -> list[float]:
    """Seconds spent in each attenuation band, nearest first; what is beyond the last band is left out.

    A sample's attenuation is taken to last until the next one, for `risk.gap` seconds at most.
    """
    seconds = [0.0] * len(risk.bands)
    smooth = _smoothed(samples)
    for index, attenuation in enumerate(smooth):
        following = samples[index + 1].at - samples[index].at if index + 1 < len(samples) else SAMPLE_SECONDS
        band = next((number for number, band in enumerate(risk.bands) if attenuation < band.below), None)
        if band is not None:
            seconds[band] += min(following, risk.gap)
    return seconds


def _smoothed(samples: Sequence[Sample]) -> list[float]:
    smooth = []
    start = end = 0
    for sample in samples:
        while samples[start].at < sample.at - SMOOTHING:
            start += 1
        while end < len(samples) and samples[end].at <= sample.at + SMOOTHING:
            end += 1
        smooth.append(fmean(near.attenuation for near in samples[start:end]))
    return smooth


def near_seconds(encounter: Encounter, risk: Risk) -> float:
    """Seconds near enough to count, weighted by band."""
    weights = [band.weight for band in risk.bands]
    return sum(w * s for w, s in zip(weights, band_seconds(encounter.samples, risk), strict=True))


def day_risks(exposures: Iterable[Exposure], risk: Risk) -> list[DayRisk]:
    """The risk of each day with an exposure, oldest first."""
    by_day: dict[int, list[Exposure]] = defaultdict(list)
    for exposure in exposures:
        by_day[exposure.encounter.day].append(exposure)
    return [_day_risk(day, found, risk) for day, found in sorted(by_day.items())]


def _day_risk(day: int, exposures: Sequence[Exposure], risk: Risk) -> DayRisk:
    minutes = sum(sum(band_seconds(found.encounter.samples, risk)) for found in exposures) / 60
    score = sum(
        near_seconds(found.encounter, risk) / 60 * risk.infectiousness[found.level - 1]
        for found in exposures
        if found.level <= len(risk.infectiousness)
    )
    return DayRisk(day, len(exposures), minutes, score, score >= risk.warn_at)
