"""Risk, worked out by hand."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent.clock import day_text
from agent.commands.explaining import explanation_facts, explanation_table, explanation_text
from agent.commands.plot import draw
from agent.exposure import DayRisk, band_seconds, day_risks, near_seconds
from agent.kept import Encounter, Exposure
from agent.nearness import AT_ONE_METRE
from agent.samples import Sample
from protocol.errors import Misuse, StorageError
from protocol.messages import Band, Risk

if TYPE_CHECKING:
    from pathlib import Path

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


def told(one: DayRisk) -> tuple[int, int, float, float, bool]:
    return (one.day, one.encounters, round(one.minutes, 9), round(one.score, 9), one.warning)


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
    assert told(one) == (DAY, 1, 4, 4 * 1.5 * 2, False)


def test_exposures_of_a_day_add_up() -> None:
    (one,) = day_risks([exposure(4, 50, level=2), exposure(6, 60, level=1)], RISK)
    assert told(one) == (DAY, 2, 10, 4 * 1.5 * 2 + 6 * 0.5, True)


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
    assert told(one) == (DAY, 1, 60, 0, False)


def test_who_was_far_is_no_risk() -> None:
    (one,) = day_risks([exposure(600, 90, level=2)], RISK)
    assert (one.minutes, one.score, one.warning) == (0, 0, False)


def test_no_exposure_no_day() -> None:
    assert day_risks([], RISK) == []


# --- nearness by distance, and encounters too short ---


def by_distance(**changes: float) -> Risk:
    given: dict[str, float] = {"within": 2.0, "falloff": 0.0, "minimum": 0.0, "warn_at": 15.0} | changes
    return Risk(bands=(), infectiousness=(0.4, 1.0), gap=300.0, **given)


def test_minutes_within_a_distance_are_expected_ones() -> None:
    # At the attenuation of 2 m the probability is a half.
    (one,) = day_risks([exposure(20, AT_ONE_METRE + 20 * math.log10(2), level=2)], by_distance())
    assert told(one) == (DAY, 1, 10, 10, False)
    assert one.shares[0].nearness == pytest.approx(one.shares[0].within) == pytest.approx(0.5)


def test_distance_squared_counts_far_minutes_a_little() -> None:
    far = exposure(60, 70, level=2)
    (step,) = day_risks([far], by_distance(within=1.0))
    (square,) = day_risks([far], by_distance(within=1.0, falloff=2.0))
    assert 0 <= step.score < square.score < 60 * 0.05


def test_a_short_encounter_counts_nothing() -> None:
    risk = msgspec.structs.replace(RISK, minimum=5.0)
    for minutes, score in ((4, 0), (5, 7.5)):
        (one,) = day_risks([exposure(minutes, 50)], risk)
        assert one.score == pytest.approx(score)
        assert one.shares[0].short is (score == 0)


def test_minutes_in_a_band_without_weight_count_for_the_shortest_encounter_only() -> None:
    bands = (*RISK.bands, Band(below=80.0, weight=0.0))
    risk = msgspec.structs.replace(RISK, bands=bands, minimum=5.0)
    (one,) = day_risks([exposure(10, 75)], risk)
    assert told(one) == (DAY, 1, 0, 0, False)
    assert not one.shares[0].short


# --- explained ---

MIXED = [exposure(4, 50, level=2), exposure(12, 60), exposure(9, 85), exposure(30, 50, day=DAY + 1)]
RISKS = {"bands": RISK, "distance": by_distance(), "squared": by_distance(within=1.0, falloff=2.0, minimum=5.0)}


@pytest.mark.parametrize("name", RISKS)
def test_the_explanation_adds_up_to_the_score(name: str) -> None:
    risks = day_risks(MIXED, RISKS[name])
    facts = explanation_facts(risks, RISKS[name])
    scores = {day_text(day.day): day.score for day in risks}
    assert facts
    for day in facts:
        parts = [
            0.0 if one["short"] else one["minutes"] * one["nearness"] * one["infectiousness"]
            for one in day["exposures"]
        ]
        assert sum(parts) == pytest.approx(day["score"]) == pytest.approx(scores[day["day"]])
        assert [one["score"] for one in day["exposures"]] == pytest.approx(parts)
        assert day["warning"] is (day["score"] >= day["warn_at"])
    json.dumps(facts)


def test_only_days_with_a_warning_are_explained_where_there_is_one() -> None:
    (day,) = explanation_facts(day_risks(MIXED[1:], RISK), RISK)
    assert day["day"] == day_text(DAY + 1)
    assert day["exposures"][0]["bands"] == [
        {"below": 55.0, "weight": 1.5, "minutes": pytest.approx(30)},
        {"below": 70.0, "weight": 0.5, "minutes": 0},
    ]


@pytest.mark.parametrize("name", RISKS)
def test_the_table_shows_every_factor(name: str) -> None:
    risks = day_risks(MIXED, RISKS[name])
    console = Console(width=120, file=io.StringIO(), record=True)
    for day in risks:
        console.print(explanation_table(day))
    console.print(explanation_text(RISKS[name]))
    text = console.export_text()
    assert "× nearness" in text
    assert "Nearness: " in text
    assert text.count("…") == 0
    if name == "squared":
        assert "too short" in text


@pytest.mark.parametrize(("name", "begins"), [("risk.png", b"\x89PNG"), ("risk.svg", b"<?xml")])
def test_a_plot_is_drawn(tmp_path: Path, name: str, begins: bytes) -> None:
    (tmp_path / "before.png").touch(mode=0o644)
    for file in (tmp_path / name, tmp_path / "before.png"):
        draw(file, day_risks(MIXED, RISK), RISK)
        if os.name == "posix":
            assert file.stat().st_mode & 0o777 == 0o600, "it is what the store keeps sealed"
    data = (tmp_path / name).read_bytes()
    assert data.startswith(begins)
    assert len(data) > 10_000


def test_what_cannot_be_drawn_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    risks = day_risks(MIXED, RISK)
    with pytest.raises(Misuse, match=r"ends in \.png, \.svg, \.pdf"):
        draw(tmp_path / "risk.txt", risks, RISK)
    with pytest.raises(Misuse, match="no exposure to draw"):
        draw(tmp_path / "risk.png", [], RISK)
    with pytest.raises(StorageError, match="cannot be written"):
        draw(tmp_path / "nowhere" / "risk.png", risks, RISK)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Misuse, match=r"pip install 'spot-agent\[plot\]'"):
        draw(tmp_path / "risk.png", risks, RISK)
