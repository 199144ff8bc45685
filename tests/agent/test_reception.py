"""Meetings with much of the radio lost, and windows instead of listening always: a few of what the benches run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ble.duty import BATTERY, MAINS
from scripts.benchmarks import reception

if TYPE_CHECKING:
    from ble.duty import Duty

RUNS = 20


@pytest.mark.parametrize("loss", [0.3, 0.5, 0.7])
async def test_five_minutes_give_the_same_ccm_on_both_sides(loss: float) -> None:
    runs = [await reception.meet(loss, seed) for seed in range(RUNS)]
    assert all(run.met[-1] for run in runs)
    assert not any(run.met[0] for run in runs), "a minute is shorter than the shortest encounter"


@pytest.mark.parametrize("other", [BATTERY, MAINS], ids=lambda duty: duty.name)
async def test_devices_on_battery_meet_within_ten_minutes(other: Duty) -> None:
    runs = [await reception.meet(0.3, seed, (10,), (BATTERY, other)) for seed in range(RUNS)]
    assert all(run.met == (True,) for run in runs)
    assert all(run.listened < 0.1 * 600 for run in runs)


async def test_a_run_can_be_repeated() -> None:
    assert await reception.meet(0.5, 7) == await reception.meet(0.5, 7)
