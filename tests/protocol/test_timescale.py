"""Sped-up time, and the error tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import errors
from protocol.errors import Misuse, SpotError, error_named
from protocol.timescale import Timescale, read_timescale


@given(st.floats(1, 10_000), st.floats(0, 2**40))
def test_a_time_scale_is_read_as_it_is_written(speed: float, anchor: float) -> None:
    scale = read_timescale(str(Timescale(speed, anchor)))
    assert scale.anchor == anchor
    assert scale.speed == pytest.approx(speed, rel=1e-4)


def test_time_passes_from_the_anchor_on() -> None:
    scale = read_timescale("120@1000")
    assert scale.at(1000) == 1000
    assert scale.at(1001) == 1120
    assert scale.real_seconds(120) == 1


@pytest.mark.parametrize(
    "text",
    ["", "@", "120", "120@", "@5", "fast@0", "0.5@0", "0@0", "-1@0", "10001@0", "nan@0", "1@nan", "1@inf", "1@0/nan"],
)
def test_a_senseless_time_scale_is_misuse(text: str) -> None:
    with pytest.raises(Misuse, match="clock"):
        read_timescale(text)


def _tree(kind: type[SpotError]) -> list[type[SpotError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in _tree(child))]


def test_every_error_has_a_name_and_an_exit_code_of_its_own() -> None:
    kinds = [kind for kind in _tree(SpotError) if kind.__module__ == errors.__name__]
    assert len({kind.slug for kind in kinds}) == len(kinds)
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    assert all(error_named(kind.slug) is kind for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert error_named("what is this") is SpotError


def test_an_error_carries_its_text() -> None:
    assert Misuse("do this instead").text == str(Misuse("do this instead")) == "do this instead"
