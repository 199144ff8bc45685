"""The radio without hardware: what is heard, how strongly, how much of it, and when."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from contextlib import aclosing
from statistics import mean
from typing import TYPE_CHECKING

import pytest

from ble.assembly import Assembler
from ble.frame import Block, FrameError, carousel
from ble.propagation import Propagation, Wall
from ble.radio import RadioError, Sighting
from ble.simulated import CATCH_UP, Air, Conditions, SimulatedRadio

if TYPE_CHECKING:
    from ble.propagation import Place

BLOCK = Block(b"b" * 32, 0)
OTHER = Block(b"o" * 32, 0)
START = 1_700_000_000.0
CLEAR = Conditions(loss=0.0, interval=1.0)


class JumpingClock:
    """Time passes only where somebody sleeps, and then at once; at `end` it stands still."""

    def __init__(self) -> None:
        self.time = START
        self.end = math.inf
        self.ended = asyncio.Event()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if self.time >= self.end:
            self.ended.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.time += seconds


async def hear(radio: SimulatedRadio, clock: JumpingClock, seconds: float) -> list[Sighting]:
    """Listen for that long."""
    heard: list[Sighting] = []

    async def listen() -> None:
        async with aclosing(radio.sightings()) as sightings:
            async for sighting in sightings:
                heard.append(sighting)  # noqa: PERF401 (kept where the task is cancelled, too)

    clock.end, clock.ended = clock.time + seconds, asyncio.Event()
    task = asyncio.create_task(listen())
    await clock.ended.wait()
    task.cancel()
    await asyncio.wait({task})
    clock.end = math.inf
    return heard


async def between(
    there: Place, seconds: float = 1000.0, conditions: Conditions = CLEAR, tx_power: int = 0
) -> list[Sighting]:
    """What a radio at the origin hears of one elsewhere."""
    clock = JumpingClock()
    air = Air(clock, conditions, seed=1)
    listener = air.radio("listener", (0.0, 0.0))
    async with air.radio("sender", there, tx_power=tx_power) as sender:
        await sender.advertise(Block(b"b" * 32, tx_power).encode())
        return await hear(listener, clock, seconds)


async def test_strength_falls_with_distance_as_the_model_says() -> None:
    near = mean(sighting.rssi for sighting in await between((1.0, 0.0)))
    far = mean(sighting.rssi for sighting in await between((20.0, 0.0)))
    assert near == pytest.approx(-40.2, abs=0.5)
    assert far == pytest.approx(-66.2, abs=0.5)


async def test_power_counts() -> None:
    heard = await between((1.0, 0.0), tx_power=-20)
    assert mean(sighting.rssi for sighting in heard) == pytest.approx(-60.2, abs=0.5)


async def test_a_share_of_the_advertisements_is_lost() -> None:
    heard = await between((1.0, 0.0), conditions=Conditions(loss=0.3, interval=1.0))
    assert len(heard) == pytest.approx(700, abs=60)


async def test_nothing_is_heard_beyond_the_sensitivity() -> None:
    exact = Conditions(loss=0.0, propagation=Propagation(fading=0.0), sensitivity=-60.0)
    assert await between((9.0, 0.0), 100.0, exact)
    assert not await between((11.0, 0.0), 100.0, exact)


async def test_walls() -> None:
    wall = (1.0, -5.0), (1.0, 5.0)
    damped = await between((2.0, 0.0), conditions=Conditions(loss=0.0, interval=1.0, walls=(Wall(*wall, 15.0),)))
    bare = await between((2.0, 0.0))
    assert mean(s.rssi for s in bare) - mean(s.rssi for s in damped) == pytest.approx(15.0, abs=0.5)
    assert not await between((2.0, 0.0), 100.0, Conditions(walls=(Wall(*wall),)))


async def test_advertisements_come_at_their_interval_in_order_and_all_slices_alike() -> None:
    heard = await between((1.0, 0.0), conditions=Conditions(loss=0.0, interval=1.28))
    gaps = [after.at - before.at for before, after in itertools.pairwise(heard)]
    assert all(1.28 <= gap <= 1.2901 for gap in gaps)
    indices = [sighting.frame.index for sighting in heard]
    assert all(sorted(indices[start : start + 4]) == [0, 1, 2, 3] for start in range(0, len(indices) - 4, 4))
    assert len({tuple(indices[start : start + 4]) for start in range(0, len(indices) - 4, 4)}) > 1
    assert {sighting.frame for sighting in heard} == set(carousel(BLOCK.encode()))


DWELLING = Conditions(loss=0.0, dwell=1.5, silence=(0.2, 0.4), propagation=Propagation(fading=0.0))


async def test_a_frame_that_dwells_is_sent_again_until_its_time_is_over() -> None:
    heard = await between((1.0, 0.0), 400.0, DWELLING)
    stays = [list(group) for _, group in itertools.groupby(heard, lambda sighting: sighting.frame)]
    assert len(stays) == pytest.approx(400 / 1.8 * 15 / 16, abs=10), "one in 16 follows itself"
    for stay in stays[1:-1]:
        assert len(stay) in (2, 4)
        assert stay[1].at - stay[0].at == pytest.approx(1.285, abs=0.006)
    for before, after in itertools.pairwise(stays[1:-1]):
        assert 1.5 + 0.2 - 1.29 <= after[0].at - before[-1].at <= 1.5 + 0.4 - 1.28 + 0.01
    order = [stay[0].frame.index for stay in stays[:4]]
    assert sorted(order) == [0, 1, 2, 3]


@pytest.mark.parametrize(("report", "times"), [(0.0, 8), (3.0, 3), (10.0, 1)])
async def test_an_address_is_reported_once_in_a_while(report: float, times: int) -> None:
    conditions = dataclasses.replace(DWELLING, dwell=10.0, report=report)
    heard = await between((1.0, 0.0), 400.0, conditions)
    stays = [len(list(group)) for _, group in itertools.groupby(heard, lambda sighting: sighting.frame)]
    assert {stay for stay in stays[1:-1] if stay != 2 * times} == {times}


async def test_what_is_lost_is_not_taken_for_reported() -> None:
    heard = await between((1.0, 0.0), 1000.0, dataclasses.replace(DWELLING, report=10.0, loss=0.5))
    # Each frame is sent twice: one in four is lost both times.
    assert len(heard) == pytest.approx(0.75 * 1000 / 1.81, rel=0.1)


async def test_a_block_that_changes_while_a_frame_dwells_is_sent_from_then_on() -> None:
    clock = JumpingClock()
    air = Air(clock, dataclasses.replace(DWELLING, dwell=60.0, report=60.0))
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    assert {s.frame.key_id for s in await hear(listener, clock, 10.0)} == {carousel(BLOCK.encode())[0].key_id}
    await sender.advertise(OTHER.encode())
    assert {s.frame.key_id for s in await hear(listener, clock, 10.0)} == {carousel(OTHER.encode())[0].key_id}


async def test_the_same_seed_gives_the_same_sightings() -> None:
    assert await between((3.0, 0.0), 50.0) == await between((3.0, 0.0), 50.0)


async def test_a_radio_does_not_hear_itself() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    radio = air.radio("alone", (0.0, 0.0))
    await radio.advertise(BLOCK.encode())
    assert await hear(radio, clock, 20.0) == []


async def test_nothing_of_the_old_block_is_heard_from_after_the_change() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    async with aclosing(listener.sightings()) as sightings:
        await anext(sightings)
        clock.time = changed = START + 100.0
        await sender.advertise(OTHER.encode())
        clock.time += 100.0
        heard = [await anext(sightings) for _ in range(150)]
    before = {sighting.frame for sighting in heard if sighting.at <= changed}
    after = {sighting.frame for sighting in heard if sighting.at > changed}
    assert before == set(carousel(BLOCK.encode()))
    assert after == set(carousel(OTHER.encode()))


async def test_a_silent_radio_is_not_heard_until_it_speaks_again() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    assert await hear(listener, clock, 20.0)
    await sender.advertise(None)
    assert not await hear(listener, clock, 20.0)
    await sender.advertise(BLOCK.encode())
    assert 18 <= len(await hear(listener, clock, 20.0)) <= 22


async def test_silence_and_speech_in_one_interval_do_not_double_the_rate() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    for _ in range(5):
        await sender.advertise(BLOCK.encode())
        await sender.advertise(None)
    await sender.advertise(BLOCK.encode())
    assert 90 <= len(await hear(listener, clock, 100.0)) <= 102


async def test_moving_changes_what_is_heard_from_then_on() -> None:
    clock = JumpingClock()
    air = Air(clock, Conditions(loss=0.0, interval=1.0, propagation=Propagation(fading=0.0)))
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    async with aclosing(listener.sightings()) as sightings:
        await anext(sightings)
        clock.time += 10.0
        air.move(sender, 11.0, 0.0)
        clock.time += 10.0
        heard = [await anext(sightings) for _ in range(18)]
    assert {s.rssi for s in heard if s.at <= START + 10} == {-40}
    assert {s.rssi for s in heard if s.at > START + 12} == {-60}


async def test_a_radio_may_follow_a_path() -> None:
    clock = JumpingClock()
    air = Air(clock, Conditions(loss=0.0, interval=1.0, propagation=Propagation(fading=0.0)))
    listener = air.radio("listener", (0.0, 0.0))
    sender = air.radio("walker", lambda at: (1.0 + (at - START), 0.0))
    await sender.advertise(BLOCK.encode())
    strengths = [sighting.rssi for sighting in await hear(listener, clock, 99.0)]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] >= -47
    assert strengths[-1] == -80


async def test_an_overslept_hour_is_made_up_and_not_more() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    async with aclosing(listener.sightings()) as sightings:
        await anext(sightings)
        clock.time = START + 100_000.0
        heard = [await anext(sightings) for _ in range(3000)]
    assert all(sighting.at >= START + 100_000.0 - CATCH_UP for sighting in heard[2:])


async def test_a_full_queue_drops_and_counts() -> None:
    clock = JumpingClock()
    air = Air(clock, Conditions(loss=0.0, interval=1.0, queue=10))
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    async with aclosing(listener.sightings()) as sightings:
        await anext(sightings)
        clock.time += 50.0
        await anext(sightings)
    assert listener.dropped == pytest.approx(40, abs=2)


async def test_a_closed_radio_is_neither_heard_nor_hears_nor_sends() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    await sender.close()
    await sender.close()
    assert not await hear(listener, clock, 20.0)
    with pytest.raises(RadioError, match="closed"):
        await sender.advertise(BLOCK.encode())
    assert [sighting async for sighting in sender.sightings()] == []


async def test_a_malformed_block_changes_nothing() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    with pytest.raises(FrameError):
        await sender.advertise(b"")
    assert {s.frame for s in await hear(listener, clock, 20.0)} == set(carousel(BLOCK.encode()))


async def test_four_radios_find_each_other_in_time_that_runs_fast() -> None:
    class FastClock:
        def now(self) -> float:
            return START + asyncio.get_running_loop().time() * 120.0

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds / 120.0)

    air = Air(FastClock())
    radios = [air.radio(str(number), (float(number), 0.0)) for number in range(4)]
    blocks = {Block(bytes([number]) * 32, 0) for number in range(4)}

    async def meet(radio: SimulatedRadio, own: Block) -> set[Block]:
        await radio.advertise(own.encode())
        found: set[Block] = set()
        assembler = Assembler()
        async with aclosing(radio.sightings()) as sightings:
            async for sighting in sightings:
                if block := assembler.add(sighting.frame, sighting.at):
                    found.add(block)
                if len(found) == 3:
                    break
        return found

    ordered = sorted(blocks, key=lambda block: block.ebid)
    found = await asyncio.gather(*(meet(radio, own) for radio, own in zip(radios, ordered, strict=True)))
    assert found == [blocks - {own} for own in ordered]


async def test_two_listeners_of_one_radio_hear_the_same_and_leave_one_by_one() -> None:
    clock = JumpingClock()
    air = Air(clock, CLEAR)
    sender, listener = air.radio("sender", (0.0, 0.0)), air.radio("listener", (1.0, 0.0))
    await sender.advertise(BLOCK.encode())
    async with aclosing(listener.sightings()) as one:
        async with aclosing(listener.sightings()) as two:
            first, same = await asyncio.gather(anext(one), anext(two))
            assert first == same
        assert listener.listening
        await anext(one)
    assert not listener.listening


async def test_a_closed_radio_cannot_be_moved_back_into_the_air() -> None:
    air = Air(JumpingClock(), CLEAR)
    radio = air.radio("gone", (0.0, 0.0))
    await radio.close()
    air.move(radio, 1.0, 1.0)
    with pytest.raises(KeyError):
        air.place(radio, START)
