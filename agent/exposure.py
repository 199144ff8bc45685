"""From encounters and publications to a risk: minutes × nearness × infectiousness, summed per day."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.nearness import expected_weight, moments, probability_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.kept import Encounter, Exposure
    from agent.nearness import Moment
    from agent.samples import Sample
    from protocol.messages import Risk

NEAR = 2.0
"""Metres, for what is told of distance whatever the risk goes by."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one exposure adds to its day: score = minutes × nearness × infectiousness.

    minutes: heard, gaps left out; counted: of them, those in bands that count, or expected within the risk's distance;
    nearness: mean weight of a minute; within: mean probability of at most NEAR metres; infectiousness: the level's
    weight; short: too short to count, so the score is 0; bands: minutes in each band, nearest first.
    """

    exposure: Exposure = field(compare=False)  # what becomes of it besides changes nothing of the risk
    minutes: float
    counted: float
    nearness: float
    within: float
    infectiousness: float
    short: bool
    bands: tuple[float, ...]

    @property
    def score(self) -> float:
        """Weighted minutes."""
        return 0.0 if self.short else self.minutes * self.nearness * self.infectiousness


@dataclass(frozen=True, slots=True)
class DayRisk:
    """One day's risk. shares: of its exposures, oldest first; warn_at: the score from which on it is a warning."""

    day: int
    shares: tuple[Share, ...]
    warn_at: float

    @property
    def encounters(self) -> int:
        """How many exposures there were."""
        return len(self.shares)

    @property
    def minutes(self) -> float:
        """Minutes that were near enough to count."""
        return sum(share.counted for share in self.shares)

    @property
    def score(self) -> float:
        """Weighted minutes."""
        return sum(share.score for share in self.shares)

    @property
    def warning(self) -> bool:
        """Whether the day is at the threshold or over."""
        return self.score >= self.warn_at


def band_seconds(samples: Sequence[Sample], risk: Risk) -> list[float]:
    """Seconds spent in each attenuation band, nearest first; what is beyond the last band is left out."""
    return _in_bands(moments(samples, risk.gap), risk)


def near_seconds(encounter: Encounter, risk: Risk) -> float:
    """Seconds near enough to count, weighted by nearness."""
    return _weighted(moments(encounter.samples, risk.gap), risk)


def weight_of(moment: Moment, risk: Risk) -> float:
    """The nearness of a moment: the weight of its band, or that of its estimated distance."""
    if not risk.bands:
        return expected_weight(moment.strongest, risk.within, risk.falloff)
    band = _band(moment, risk)
    return 0.0 if band is None else risk.bands[band].weight


def day_risks(exposures: Iterable[Exposure], risk: Risk) -> list[DayRisk]:
    """The risk of each day with an exposure, oldest first."""
    by_day: dict[int, list[Exposure]] = defaultdict(list)
    for exposure in exposures:
        by_day[exposure.encounter.day].append(exposure)
    return [
        DayRisk(day, tuple(share_of(one, risk) for one in found), risk.warn_at) for day, found in sorted(by_day.items())
    ]


def share_of(exposure: Exposure, risk: Risk) -> Share:
    """What this exposure adds to its day."""
    found = moments(exposure.encounter.samples, risk.gap)
    seconds = sum(moment.seconds for moment in found)
    bands = _in_bands(found, risk)
    counted = sum(one for one, band in zip(bands, risk.bands, strict=True) if band.weight)
    if not risk.bands:
        counted = _expected(found, risk.within)
    known = exposure.level <= len(risk.infectiousness)
    return Share(
        exposure,
        minutes=seconds / 60,
        counted=counted / 60,
        nearness=_weighted(found, risk) / seconds if seconds else 0.0,
        within=_expected(found, NEAR) / seconds if seconds else 0.0,
        infectiousness=risk.infectiousness[exposure.level - 1] if known else 0.0,
        short=(sum(bands) if risk.bands else seconds) < risk.minimum * 60,
        bands=tuple(one / 60 for one in bands),
    )


def _weighted(found: Iterable[Moment], risk: Risk) -> float:
    return sum(moment.seconds * weight_of(moment, risk) for moment in found)


def _expected(found: Iterable[Moment], metres: float) -> float:
    return sum(moment.seconds * probability_within(moment.strongest, metres) for moment in found)


def _in_bands(found: Iterable[Moment], risk: Risk) -> list[float]:
    seconds = [0.0] * len(risk.bands)
    for moment in found:
        band = _band(moment, risk)
        if band is not None:
            seconds[band] += moment.seconds
    return seconds


def _band(moment: Moment, risk: Risk) -> int | None:
    return next((number for number, band in enumerate(risk.bands) if moment.attenuation < band.below), None)
