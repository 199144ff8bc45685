"""The ladder, and a radio that is watched: with a clock that a test turns, and a radio that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest

from ble.failure import failure
from ble.frame import Block, carousel
from ble.radio import Radio, RadioError, Reason, Sighting
from ble.watchdog import (
    CYCLE_AGAIN,
    PROMPT,
    RETRY_LAST,
    SILENCE,
    STEADY,
    STUBBORN,
    Health,
    Ladder,
    MonotonicClock,
    Step,
    Trouble,
    Watched,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

BLOCK = Block(b"w" * 32, 0).encode()
SIGHTING = Sighting(0.0, carousel(BLOCK)[0], -50)
OFF = failure(Reason.OFF, "told to")
BROKEN = failure(Reason.FAILED, "told to")
EPOCH = 1_000_000.0  # where the clock that is told begins


class Timer:
    """Time that passes when told to; whoever sleeps wakes in order."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.at + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        end = self.at + seconds
        await settle()
        while due := [one for one in self._sleepers if one[0] <= end]:
            first = min(due, key=lambda one: one[0])
            self._sleepers.remove(first)
            self.at = max(self.at, first[0])
            first[1].set()
            await settle()
        self.at = end


async def settle() -> None:
    for _ in range(15):
        await asyncio.sleep(0)


class Told:
    """The clock whose times are told: the timer's, since 1970."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def now(self) -> float:
        return EPOCH + self._timer.now()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("waits are the timer's")


class FakeRadio(Radio):
    """Hears what it is told to; a scan starts and ends with errors where told to."""

    def __init__(self) -> None:
        self.heard = 0
        self.scans = 0
        self.cycled = 0
        self.refuses: RadioError | None = None  # to scan
        self.broken: RadioError | None = None  # for the rotation
        self.mute: RadioError | None = None  # at once
        self._news: asyncio.Queue[Sighting | RadioError | None] = asyncio.Queue()

    @property
    def tx_power(self) -> int:
        return 3

    @property
    def dropped(self) -> int:
        return 5

    @property
    def trouble(self) -> RadioError | None:
        return self.broken

    @property
    def advertisements(self) -> int:
        return self.heard

    async def advertise(self, block: bytes | None) -> None:
        if self.mute and block:
            raise self.mute

    async def sightings(self) -> AsyncGenerator[Sighting]:
        self.scans += 1
        self._news = asyncio.Queue()
        if self.refuses:
            raise self.refuses
        while (one := await self._news.get()) is not None:
            if isinstance(one, RadioError):
                raise one
            yield one

    def hear(self) -> None:
        self.heard += 1
        self._news.put_nowait(SIGHTING)

    def interrupt(self, error: RadioError) -> None:
        self._news.put_nowait(error)

    async def power_cycle(self) -> None:
        self.cycled += 1
        if self.refuses:
            raise self.refuses

    async def close(self) -> None:
        self._news.put_nowait(None)


class Scene:
    def __init__(self, *, power_cycle: bool = False) -> None:
        self.timer = Timer()
        self.radio = FakeRadio()
        self.watched = Watched(self.radio, Told(self.timer), power_cycle=power_cycle, timer=self.timer)
        self.heard = 0

    @property
    def health(self) -> Health:
        return self.watched.health

    async def listen(self) -> None:
        async with contextlib.aclosing(self.watched.sightings()) as sightings:
            async for _ in sightings:
                self.heard += 1

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Scene]:
        task = asyncio.create_task(self.listen())
        await settle()
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}


# The ladder


def test_what_fails_is_tried_again_more_and_more_slowly_for_ever() -> None:
    ladder = Ladder(power_cycle=False)
    assert [ladder.failed(Reason.FAILED, 0.0).wait for _ in range(6)] == [1, 2, 4, 8, 16, 16]
    assert {ladder.failed(Reason.OFF, 0.0) for _ in range(2000)} == {Step(RETRY_LAST)}
    ladder.steady()
    assert ladder.failed(Reason.ABSENT, 0.0) == Step(1.0)


def test_nothing_is_power_cycled_unless_it_is_allowed() -> None:
    ladder = Ladder(power_cycle=False)
    steps = [ladder.failed(Reason.FAILED, number * 1e4) for number in range(99)]
    steps += [ladder.silent(number * 1e4) for number in range(99)]
    assert not any(step.power_cycle for step in steps)


def test_stubborn_failures_power_cycle_now_and_then() -> None:
    ladder = Ladder(power_cycle=True)
    cycled = [now for now in range(0, 2000, 10) if ladder.failed(Reason.FAILED, float(now)).power_cycle]
    assert cycled[0] == 10 * (STUBBORN - 1)
    assert {after - before for before, after in itertools.pairwise(cycled)} == {CYCLE_AGAIN}


@pytest.mark.parametrize("reason", [Reason.OFF, Reason.ABSENT, Reason.DENIED, Reason.UNSUPPORTED])
def test_an_adapter_that_somebody_turned_off_is_left_alone(reason: Reason) -> None:
    ladder = Ladder(power_cycle=True)
    assert not any(ladder.failed(reason, 0.0).power_cycle for _ in range(99))


def test_silence_power_cycles_once_until_something_is_heard() -> None:
    ladder = Ladder(power_cycle=True)
    assert [ladder.silent(number * 1e4).power_cycle for number in range(6)] == [False, False, True] + 3 * [False]
    ladder.hears()
    assert [ladder.silent(1e6 + number).power_cycle for number in range(3)] == [False, False, True]


# Watching


async def test_it_passes_on_what_the_radio_says() -> None:
    scene = Scene()
    assert (scene.watched.tx_power, scene.watched.dropped, scene.watched.advertisements) == (3, 5, 0)
    async with scene.listening():
        scene.radio.hear()
        await settle()
        assert scene.heard == 1
        assert scene.health == Health()
        await scene.watched.close()
        await settle()


async def test_a_scan_that_ends_is_started_again_and_the_time_is_told() -> None:
    async with (scene := Scene()).listening():
        await scene.timer.advance(10)
        scene.radio.refuses = OFF
        scene.radio.interrupt(OFF)
        await scene.timer.advance(40)
        assert scene.health.deaf == Trouble("deaf", EPOCH + 10, str(OFF))
        assert scene.health.problem == str(OFF)
        assert scene.radio.scans == 6, "at 1, 3, 7, 15, 31 s"
        scene.radio.refuses = None
        await scene.timer.advance(RETRY_LAST)
        scene.radio.hear()
        await settle()
        assert scene.heard == 1
        assert scene.health.deaf is None
        last = scene.health.last
        assert last is not None
        assert (last.kind, last.since, last.what) == ("deaf", EPOCH + 10, str(OFF))
        assert last.until is not None
        assert 50 <= last.until - EPOCH <= 50 + RETRY_LAST
        assert scene.radio.cycled == 0


async def test_a_scan_that_does_not_fail_is_taken_to_hear_where_nobody_is() -> None:
    async with (scene := Scene()).listening():
        scene.radio.interrupt(OFF)
        await scene.timer.advance(5)
        assert scene.health.deaf
        await scene.timer.advance(STEADY)
        assert scene.health.deaf is None


async def test_silence_restarts_the_scan_and_what_follows_at_once_tells_that_it_was_deaf() -> None:
    async with (scene := Scene()).listening():
        await scene.timer.advance(10)
        scene.radio.hear()
        await scene.timer.advance(SILENCE - 5)
        assert scene.radio.scans == 1
        await scene.timer.advance(10)
        assert scene.radio.scans == 2
        assert scene.health == Health(quiet_since=scene.health.quiet_since)
        scene.radio.hear()
        await scene.timer.advance(2)
        last = scene.health.last
        assert last is not None
        assert last.kind == "deaf"
        assert EPOCH + 10 <= last.since <= EPOCH + 12
        assert scene.health.quiet_since is None


async def test_alone_it_listens_anew_now_and_then_and_that_is_no_trouble() -> None:
    async with (scene := Scene()).listening():
        await scene.timer.advance(10 * SILENCE + 30)
        assert scene.radio.scans == 11
        assert scene.health.quiet_since is not None
        assert scene.health.quiet_since - EPOCH < 2
        assert scene.health.problem == ""
        await scene.timer.advance(PROMPT)
        scene.radio.hear()  # somebody came
        await scene.timer.advance(2)
        assert scene.health == Health()


async def test_foreign_devices_keep_the_watchdog_quiet() -> None:
    async with (scene := Scene()).listening():
        for _ in range(20):
            await scene.timer.advance(SILENCE / 2)
            scene.radio.heard += 1
        assert scene.radio.scans == 1
        assert scene.heard == 0


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_adapter_is_power_cycled_only_where_that_is_allowed(allowed: bool) -> None:
    async with (scene := Scene(power_cycle=allowed)).listening():
        scene.radio.refuses = BROKEN
        scene.radio.interrupt(BROKEN)
        await scene.timer.advance(60)
        assert scene.radio.cycled == allowed
        assert scene.radio.scans > 4, "it is tried again whether that helped or not"


async def test_being_mute_is_told_apart_from_being_deaf() -> None:
    async with (scene := Scene()).listening():
        await scene.watched.advertise(BLOCK)
        await scene.timer.advance(10)
        scene.radio.broken = BROKEN
        await scene.timer.advance(5)
        mute = scene.health.mute
        assert mute is not None
        assert EPOCH + 10 <= mute.since <= EPOCH + 11
        assert scene.health.deaf is None
        scene.radio.broken = None
        await scene.timer.advance(2)
        assert scene.health.mute is None
        assert scene.health.last is not None
        assert scene.health.last.kind == "mute"


async def test_a_block_that_is_refused_is_mute_until_the_next_one_is_not() -> None:
    scene = Scene()
    scene.radio.mute = OFF
    with pytest.raises(RadioError):
        await scene.watched.advertise(BLOCK)
    assert scene.watched.trouble is OFF
    assert scene.health.problem == str(OFF)
    scene.timer.at += 30
    with pytest.raises(RadioError):
        await scene.watched.advertise(BLOCK)
    assert scene.health.mute == Trouble("mute", EPOCH, str(OFF))
    scene.radio.mute = None
    await scene.watched.advertise(BLOCK)
    assert scene.health == Health(last=Trouble("mute", EPOCH, str(OFF), EPOCH + 30))


async def test_silent_on_purpose_it_is_neither() -> None:
    scene = Scene()
    async with scene.listening():
        scene.radio.interrupt(OFF)
        await settle()
        assert scene.health.deaf
    await scene.watched.advertise(None)
    assert scene.health == Health()


async def test_the_monotonic_clock() -> None:
    clock = MonotonicClock()
    before = clock.now()
    await clock.sleep(0.01)
    assert clock.now() > before
