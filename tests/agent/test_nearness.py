"""Nearness: what must hold of any estimate of distance, and a synthetic meeting."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.nearness import AT_ONE_METRE, EXPONENT, SPREAD, expected_weight, moments, probability_within
from agent.samples import SAMPLE_SECONDS, Sample

GAP = 120.0
ATTENUATION = st.integers(0, 255).map(lambda half: half / 2)
SAMPLES = st.lists(st.tuples(st.integers(1, 60), ATTENUATION), min_size=1, max_size=60)


def timeline(steps: list[tuple[int, float]]) -> list[Sample]:
    at, found = 0.0, []
    for step, attenuation in steps:
        found.append(Sample(at, attenuation))
        at += step * SAMPLE_SECONDS
    return found


def probabilities(samples: list[Sample], metres: float = 2.0) -> list[float]:
    return [probability_within(moment.strongest, metres) for moment in moments(samples, GAP)]


def at(metres: float) -> float:
    """The strongest readings' attenuation at this distance."""
    return AT_ONE_METRE + 10 * EXPONENT * math.log10(metres)


# --- one estimate ---


def test_the_middle_is_where_the_path_loss_says() -> None:
    for metres in (0.5, 1.0, 2.0, 5.0):
        assert probability_within(at(metres), metres) == pytest.approx(0.5)
    # One standard deviation nearer, and one further.
    assert probability_within(at(2.0) - SPREAD, 2.0) == pytest.approx(0.8413, abs=1e-4)
    assert probability_within(at(2.0) + SPREAD, 2.0) == pytest.approx(0.1587, abs=1e-4)


@given(ATTENUATION, ATTENUATION, st.floats(0.1, 50), st.floats(0, 8))
def test_nearer_never_counts_less(one: float, other: float, within: float, falloff: float) -> None:
    near, far = sorted((one, other))
    assert expected_weight(near, within, falloff) >= expected_weight(far, within, falloff) - 1e-9
    assert probability_within(near, within) >= probability_within(far, within)


@given(ATTENUATION, st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0, 8), st.floats(0, 8))
def test_weights_are_bounded_and_ordered(strongest: float, one: float, other: float, slow: float, fast: float) -> None:
    small, large = sorted((one, other))
    assert 0 <= probability_within(strongest, small) <= probability_within(strongest, large) <= 1
    slow, fast = sorted((slow, fast))
    if slow:
        assert expected_weight(strongest, small, slow) >= expected_weight(strongest, small, fast) - 1e-9
    assert probability_within(strongest, small) - 1e-9 <= expected_weight(strongest, small, fast) <= 1


@pytest.mark.parametrize("metres", [0.3, 1.0, 3.0, 10.0])
def test_one_over_distance_squared_is_its_mean(metres: float) -> None:
    chance = random.Random(1)
    decade = 10 * EXPONENT
    drawn = (10 ** ((at(metres) - AT_ONE_METRE + chance.gauss(0, SPREAD)) / decade) for _ in range(100_000))
    mean = sum(min(1.0, one**-2) for one in drawn) / 100_000
    assert expected_weight(at(metres), 1.0, 2.0) == pytest.approx(mean, rel=0.03)


# --- over time ---


@given(SAMPLES, st.data())
def test_a_stronger_reading_never_makes_it_further(steps: list[tuple[int, float]], data: st.DataObject) -> None:
    samples = timeline(steps)
    place = data.draw(st.integers(0, len(samples) - 1))
    stronger = list(samples)
    stronger[place] = replace(samples[place], attenuation=data.draw(st.floats(0, samples[place].attenuation)))
    for before, after in zip(probabilities(samples), probabilities(stronger), strict=True):
        assert after >= before - 1e-9


@given(SAMPLES)
def test_no_time_is_invented(steps: list[tuple[int, float]]) -> None:
    samples = timeline(steps)
    found = moments(samples, GAP)
    assert [moment.at for moment in found] == [sample.at for sample in samples]
    assert all(0 < moment.seconds <= GAP for moment in found)
    assert sum(moment.seconds for moment in found) <= samples[-1].at + SAMPLE_SECONDS
    lowest, highest = min(one.attenuation for one in samples), max(one.attenuation for one in samples)
    assert all(lowest - 1e-9 <= moment.strongest <= highest + 1e-9 for moment in found)


@given(st.integers(3, 180), st.data())
def test_one_impossible_reading_changes_nothing(count: int, data: st.DataObject) -> None:
    samples = [Sample(number * SAMPLE_SECONDS, 75.0) for number in range(count)]
    place = data.draw(st.integers(0, count - 1))
    for outlier in (0.0, 127.5):
        spoilt = [*samples[:place], replace(samples[place], attenuation=outlier), *samples[place + 1 :]]
        assert probabilities(spoilt) == pytest.approx(probabilities(samples))


def test_bodies_in_between_weaken_most_readings_and_tell_little() -> None:
    clear = [Sample(number * SAMPLE_SECONDS, 50.0) for number in range(120)]
    turned = [replace(one, attenuation=70.0) if number % 5 else one for number, one in enumerate(clear)]
    assert probabilities(turned) == pytest.approx(probabilities(clear))


def test_a_gap_ends_what_was_known() -> None:
    near = [Sample(number * SAMPLE_SECONDS, 45.0) for number in range(12)]
    far = [Sample(700 + number * SAMPLE_SECONDS, 80.0) for number in range(12)]
    found = moments(near + far, GAP)
    assert sum(moment.seconds for moment in found) == pytest.approx(60 - 5 + GAP + 60)
    assert probability_within(found[11].strongest, 2.0) > 0.8
    assert probability_within(found[12].strongest, 2.0) < 0.01


def test_losing_most_frames_changes_little() -> None:
    chance = random.Random(7)
    full = [Sample(number * SAMPLE_SECONDS, at(1.0) + chance.expovariate(1 / 8)) for number in range(180)]
    thin = [one for one in full if chance.random() < 0.3]
    assert max(probabilities(thin)) - min(probabilities(full)) < 0.35
    assert sum(probabilities(thin)) / len(thin) == pytest.approx(sum(probabilities(full)) / len(full), abs=0.1)


@pytest.mark.parametrize(("metres", "low", "high"), [(0.7, 0.75, 1.0), (1.5, 0.4, 0.75), (4.0, 0.0, 0.2)])
def test_a_synthetic_meeting(metres: float, low: float, high: float) -> None:
    """Ten minutes with fading of 5 dB, somebody turning every minute, half of the slots empty."""
    chance = random.Random(3)
    samples = []
    for number in range(120):
        turned = 12.0 if (number // 12) % 2 else 0.0
        reading = at(metres) + 4 + turned + chance.gauss(0, 5)
        if chance.random() < 0.5:
            samples.append(Sample(number * SAMPLE_SECONDS, reading))
    found = probabilities(samples)
    assert low <= sum(found) / len(found) <= high


def test_nothing_heard_is_no_moment() -> None:
    assert moments([], GAP) == []
