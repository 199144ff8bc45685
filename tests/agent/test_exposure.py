"""Risk, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.exposure import DayRisk, band_seconds, day_risks, near_seconds
from agent.samples import Sample
from agent.store import Encounter, Exposure
from protocol.messages import Band, Risk

DAY = 20_000
RISK = Risk(
    bands=(Band(below=55.0, weight=1.5), Band(below=70.0, weight=0.5)),
    infectiousness=(1.0, 2.0),
    warn_at=15.0,
    gap=300.0,
)


def samples(*pairs: tuple[float, float]) -> tuple[Sample, ...]:
    return tuple(Sample(at, attenuation) for at, attenuation in pairs)


def encounter(*pairs: tuple[float, float], day: int = DAY, number: int = 1) -> Encounter:
    return Encounter(bytes(32), 0, day, 0.0, pairs[-1][0], samples(*pairs), id=number)


def exposure(minutes: float, attenuation: float, level: int = 1, day: int = DAY) -> Exposure:
    """Somebody there for so many minutes, a sample a minute: each lasts for one, the last for 5 seconds."""
    count = round(minutes)
    pairs = [(60.0 * number, attenuation) for number in range(count)] + [(60.0 * count - 5, attenuation)]
    return Exposure(encounter(*pairs, day=day), level, 0)


# --- seconds in bands ---


def test_a_sample_lasts_until_the_next() -> None:
    # Two minutes apart, so nothing is averaged: 120 s near, 100 s middle, then 5 s too far.
    assert band_seconds(samples((0, 50), (120, 60), (220, 90)), RISK) == [120, 100]


def test_the_last_sample_lasts_five_seconds() -> None:
    assert band_seconds(samples((0, 50)), RISK) == [5, 0]


def test_a_gap_counts_for_so_long_only() -> None:
    assert band_seconds(samples((0, 50), (300, 50)), RISK) == [305, 0]
    assert band_seconds(samples((0, 50), (301, 50)), RISK) == [305, 0]
    assert band_seconds(samples((0, 50), (5000, 50)), RISK) == [305, 0]


def test_a_gap_below_a_sample_holds_for_the_last_one_too() -> None:
    strict = Risk(bands=RISK.bands, infectiousness=(1.0,), warn_at=1.0, gap=2.0)
    assert band_seconds(samples((0, 50), (5, 50), (10, 50)), strict) == [6, 0]


def test_nothing_heard_is_no_time() -> None:
    assert band_seconds((), RISK) == [0, 0]


@pytest.mark.parametrize(
    ("attenuation", "seconds"),
    [(0.0, [5, 0]), (54.5, [5, 0]), (55.0, [0, 5]), (69.5, [0, 5]), (70.0, [0, 0]), (127.5, [0, 0])],
)
def test_a_bands_edge_belongs_to_the_next_band(attenuation: float, seconds: list[float]) -> None:
    assert band_seconds(samples((0, attenuation)), RISK) == seconds


# --- smoothing ---


def test_readings_within_half_a_minute_are_averaged() -> None:
    # Alone, 40 dB would be near and 80 dB nowhere; their mean of 60 dB is the middle band: 30 + 5 s.
    assert band_seconds(samples((0, 40), (30, 80)), RISK) == [0, 35]


def test_readings_further_apart_are_not() -> None:
    assert band_seconds(samples((0, 40), (31, 80)), RISK) == [31, 0]


def test_the_window_moves_along() -> None:
    # Means: at 0 (0, 30): 50; at 30 (0, 30, 60): 60; at 60 (30, 60): 70, too far.
    assert band_seconds(samples((0, 40), (30, 60), (60, 80)), RISK) == [30, 30]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 255)), min_size=1, max_size=80))
def test_no_time_is_invented(steps: list[tuple[int, int]]) -> None:
    at, pairs = 0.0, []
    for step, half in steps:
        pairs.append((at, half / 2))
        at += step * 5.0
    found = band_seconds(samples(*pairs), RISK)
    assert all(seconds >= 0 for seconds in found)
    assert sum(found) <= pairs[-1][0] + 5


@given(st.floats(0, 127), st.integers(1, 60))
def test_who_stays_at_one_distance_is_in_one_band_all_the_time(attenuation: float, count: int) -> None:
    found = band_seconds(samples(*((5.0 * number, attenuation) for number in range(count))), RISK)
    expected = 0 if attenuation < 55 else 1 if attenuation < 70 else None
    assert found == [count * 5 if band == expected else 0 for band in range(2)]


def test_near_seconds_are_weighted() -> None:
    # 120 s · 1.5 + 100 s · 0.5
    assert near_seconds(encounter((0, 50), (120, 60), (220, 90)), RISK) == pytest.approx(230)


# --- days ---


def test_minutes_are_weighted_by_band_and_level() -> None:
    (one,) = day_risks([exposure(4, 50, level=2)], RISK)
    assert one == DayRisk(DAY, 1, 4, 4 * 1.5 * 2, warning=False)


def test_exposures_of_a_day_add_up() -> None:
    (one,) = day_risks([exposure(4, 50, level=2), exposure(6, 60, level=1)], RISK)
    assert one == DayRisk(DAY, 2, 10, 4 * 1.5 * 2 + 6 * 0.5, warning=True)


def test_days_do_not_add_up() -> None:
    found = day_risks([exposure(6, 50, day=DAY + 1), exposure(6, 50, day=DAY - 1), exposure(6, 50)], RISK)
    assert [one.day for one in found] == [DAY - 1, DAY, DAY + 1]
    assert [one.score for one in found] == pytest.approx([9, 9, 9])
    assert not any(one.warning for one in found)


@pytest.mark.parametrize(("minutes", "warning"), [(9, False), (10, True), (11, True)])
def test_the_warning_begins_at_the_threshold(minutes: int, warning: bool) -> None:
    # 10 min · 1.5 is 15 exactly.
    (one,) = day_risks([exposure(minutes, 50)], RISK)
    assert one.score == pytest.approx(minutes * 1.5)
    assert one.warning is warning


def test_a_level_without_a_weight_counts_nothing() -> None:
    (one,) = day_risks([exposure(60, 50, level=3)], RISK)
    assert one == DayRisk(DAY, 1, 60, 0, warning=False)


def test_who_was_far_is_no_risk() -> None:
    (one,) = day_risks([exposure(600, 90, level=2)], RISK)
    assert (one.minutes, one.score, one.warning) == (0, 0, False)


def test_no_exposure_no_day() -> None:
    assert day_risks([], RISK) == []
