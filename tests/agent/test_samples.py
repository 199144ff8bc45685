"""Samples, and the three bytes each is kept in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.samples import SAMPLE_SECONDS, Sample, decode_samples, encode_samples

FIRST = 1_728_000_000.25
SLOTS = st.lists(st.integers(0, 0xFFFF), unique=True, max_size=300).map(sorted)


@given(slots=SLOTS, data=st.data(), first=st.floats(0, 4e9))
def test_round_trip(slots: list[int], data: st.DataObject, first: float) -> None:
    attenuations = [data.draw(st.integers(0, 255)) / 2 for _ in slots]
    samples = tuple(
        Sample(first + slot * SAMPLE_SECONDS, attenuation)
        for slot, attenuation in zip(slots, attenuations, strict=True)
    )
    encoded = encode_samples(first, samples)
    assert len(encoded) == 3 * len(samples)
    assert decode_samples(first, encoded) == samples


@given(attenuation=st.floats(-300, 300), late=st.floats(0, 1e7))
def test_whatever_was_measured_fits(attenuation: float, late: float) -> None:
    (sample,) = decode_samples(FIRST, encode_samples(FIRST, [Sample(FIRST + late, attenuation)]))
    assert sample.attenuation == pytest.approx(min(max(attenuation, 0), 127.5), abs=0.25)
    assert sample.at == pytest.approx(FIRST + min(late, 0xFFFF * SAMPLE_SECONDS), abs=SAMPLE_SECONDS / 2 + 1e-3)


def test_bytes_as_documented() -> None:
    samples = [Sample(FIRST, 40.0), Sample(FIRST + 10, 63.5), Sample(FIRST + 1285, 300.0)]
    assert encode_samples(FIRST, samples) == bytes.fromhex("000050 00027f 0101ff")


def test_a_mean_between_two_halves_is_rounded() -> None:
    assert decode_samples(0, encode_samples(0, [Sample(0, 54.9)])) == (Sample(0, 55.0),)
