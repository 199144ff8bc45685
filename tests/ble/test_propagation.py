"""Path loss and walls."""

from __future__ import annotations

import math
import random
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ble.propagation import NEAREST, Place, Propagation, Wall, crosses

places = st.tuples(st.floats(-100, 100), st.floats(-100, 100))
WALL = Wall((5.0, -1.0), (5.0, 1.0), 12.0)


def test_free_space() -> None:
    model = Propagation(exponent=2.0)
    assert model.loss((0, 0), (1, 0)) == pytest.approx(40.2)
    assert model.loss((0, 0), (10, 0)) == pytest.approx(60.2)
    assert model.loss((0, 0), (0, 20)) == pytest.approx(66.2, abs=0.05)


@given(places, places)
def test_loss_is_the_same_both_ways_and_never_less_than_at_the_nearest(here: Place, there: Place) -> None:
    model = Propagation()
    assert model.loss(here, there) == model.loss(there, here)
    assert model.loss(here, there) >= model.loss((0, 0), (NEAREST, 0))


def test_fading_has_the_mean_and_the_deviation_asked_for() -> None:
    chance = random.Random(1)
    model = Propagation(fading=4.0)
    faded = [model.faded(60.0, chance) for _ in range(5000)]
    assert mean(faded) == pytest.approx(60.0, abs=0.3)
    assert stdev(faded) == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize(
    ("here", "there", "through"),
    [
        ((0, 0), (10, 0), True),
        ((10, 0), (0, 0), True),
        ((0, 0), (4.9, 0), False),  # ends before it
        ((5.1, 0), (10, 0), False),
        ((0, 1.1), (10, 1.1), False),  # passes beside it
        ((0, 1), (10, 1), True),  # touches its end
        ((5, -9), (5, 9), False),  # runs along it
        ((3, 3), (3, 3), False),
    ],
)
def test_which_ways_lead_through_a_wall(here: Place, there: Place, through: bool) -> None:
    assert crosses(here, there, WALL) is through


@given(places, places)
def test_walls_stand_both_ways(here: Place, there: Place) -> None:
    assert crosses(here, there, WALL) == crosses(there, here, WALL)


def test_walls_add_up_and_may_be_opaque() -> None:
    model = Propagation()
    second = Wall((6.0, -1.0), (6.0, 1.0), 3.0)
    bare = model.loss((0, 0), (10, 0))
    assert model.loss((0, 0), (10, 0), [WALL, second]) == pytest.approx(bare + 15.0)
    assert model.loss((0, 0), (10, 0), [Wall((5.0, -1.0), (5.0, 1.0))]) == math.inf
