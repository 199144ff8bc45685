"""When a radio listens: always or in windows, by a clock that the test turns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
from typing import TYPE_CHECKING

import pytest

from ble.duty import BATTERY, MAINS, Duty, listen_by
from ble.radio import RadioError, Reason
from scripts.benchmarks.simulation import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHORT = Duty("short", window=4.0, longest=12.0, pause=(60.0, 120.0))


class Ear:
    """What is run in the windows: it notes from when to when, and may fail."""

    def __init__(self, clock: Clock) -> None:
        self.windows: list[tuple[float, float]] = []
        self.listening = False
        self.fails: Exception | None = None
        self._clock = clock

    async def listen(self) -> None:
        begun = self._clock.now()
        self.listening = True
        try:
            if self.fails:
                raise self.fails
            await asyncio.Event().wait()
        finally:
            self.listening = False
            self.windows.append((begun, self._clock.now()))


class Desk:
    """A duty that a test can change, what is wanted, and the ear that obeys."""

    def __init__(self, duty: Duty) -> None:
        self.clock = Clock(0.0)
        self.ear = Ear(self.clock)
        self.duty = duty
        self.wanted_until = -math.inf

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        chance = random.Random(1)
        task = asyncio.create_task(
            listen_by(lambda: self.duty, self.ear.listen, self._wanted, self.clock, chance), name="duty"
        )
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _wanted(self, since: float) -> bool:
        assert since == self.clock.now() or since > self.clock.now() - 12
        return self.clock.now() < self.wanted_until


async def test_on_mains_it_listens_without_a_pause_until_the_end() -> None:
    desk = Desk(MAINS)
    async with desk.at_work():
        await desk.clock.run(3600.0)
        assert desk.ear.listening
    assert desk.ear.windows == [(0.0, 3600.0)]


async def test_windows_and_pauses_are_as_long_as_they_should_be_and_pauses_are_drawn() -> None:
    desk = Desk(SHORT)
    async with desk.at_work():
        await desk.clock.run(3600.0)
    windows = desk.ear.windows
    assert 3600 / 124 <= len(windows) <= 3600 / 64
    assert all(end - begin == 4.0 for begin, end in windows[:-1])
    pauses = [after - end for (_, end), (after, _) in itertools.pairwise(windows)]
    assert all(60.0 <= pause <= 120.0 for pause in pauses)
    assert len({round(pause) for pause in pauses}) > len(pauses) / 2


@pytest.mark.parametrize(("until", "length"), [(2.0, 4.0), (6.5, 7.0), (1000.0, 12.0)])
async def test_a_window_goes_on_while_it_is_wanted_but_not_for_ever(until: float, length: float) -> None:
    desk = Desk(SHORT)
    desk.wanted_until = until
    async with desk.at_work():
        await desk.clock.run(40.0)
    assert desk.ear.windows[0] == (0.0, length)


async def test_the_duty_may_change_on_the_way() -> None:
    desk = Desk(MAINS)
    async with desk.at_work():
        await desk.clock.run(100.0)
        desk.duty = SHORT  # unplugged
        await desk.clock.run(100.0)
        assert not desk.ear.listening
        desk.duty = MAINS
        await desk.clock.run(200.0)
        assert desk.ear.listening


async def test_what_listening_raises_comes_out() -> None:
    desk = Desk(SHORT)
    desk.ear.fails = error = RadioError(Reason.OFF, "Bluetooth is off.")
    with pytest.raises(ExceptionGroup) as caught:
        await listen_by(lambda: SHORT, desk.ear.listen, lambda _: False, desk.clock, random.Random(1))
    assert caught.value.exceptions == (error,)


def test_a_device_on_battery_listens_for_little_and_often_enough() -> None:
    assert BATTERY.window / (BATTERY.window + sum(BATTERY.pause) / 2) < 0.05
    assert BATTERY.round < 150
    assert MAINS.round == 0
