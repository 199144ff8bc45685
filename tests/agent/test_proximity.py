"""From sightings to encounters: on the simulated radio, and frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import proximity as module
from agent.epochs import GRACE, Epochs, OwnEpoch
from agent.proximity import Proximity
from ble.carriage import Carriage
from ble.frame import Block, Frame, carousel, key_id
from ble.propagation import Propagation
from ble.radio import Sighting
from ble.simulated import Air, Conditions
from protocol.encounter import EpochKey, token_of
from tests.agent.clocks import NOON, VirtualClock
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.kept import Encounter
    from ble.radio import Radio
    from ble.simulated import SimulatedRadio

LENGTH = 900
CLEAR = Conditions(propagation=Propagation(fading=0.0), loss=0.0)
BUSY = Conditions(loss=0.5)
"""Half of the advertisements lost, 3 dB of fading: a room full of people."""


class Device:
    """What the service wires up, without disk and network."""

    def __init__(self, air: Air, clock: VirtualClock, name: str, x: float) -> None:
        self.clock = clock
        self.radio: SimulatedRadio = air.radio(name, (x, 0.0))
        self.epochs = Epochs(LENGTH, self.radio.tx_power, Source(name))
        self.proximity = Proximity(self.epochs)
        self.finished: list[Encounter] = []

    async def be_on_air(self, radio: Radio | None = None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                own = self.epochs.fresh(self.clock.now())
                await self.radio.advertise(own.block)
                self.epochs.switch(own, self.clock.now())
                await self.clock.sleep(own.ends - self.clock.now())

    async def _listen(self) -> None:
        async with contextlib.aclosing(self.radio.sightings()) as sightings:
            async for sighting in sightings:
                self.proximity.hear(sighting)
                self.finished += self.proximity.finish(self.epochs.destroy(self.clock.now()))

    def end(self) -> list[Encounter]:
        self.finished += self.proximity.finish(self.epochs.destroy_all())
        return sorted(self.finished, key=lambda one: (one.first, one.secret))


@contextlib.asynccontextmanager
async def on_air(*devices: Device) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(device.be_on_air()) for device in devices]
        yield
        for task in tasks:
            task.cancel()


# --- devices in an air ---


async def test_two_devices_agree_on_their_encounter() -> None:
    clock = VirtualClock()
    air = Air(clock, CLEAR)
    alice, bob = Device(air, clock, "alice", 0.0), Device(air, clock, "bob", 2.0)
    async with on_air(alice, bob):
        await clock.advance(600)
    (mine,), (theirs,) = alice.end(), bob.end()
    assert mine.secret == theirs.secret
    assert {mine.role, theirs.role} == {0, 1}
    assert token_of(mine.secret, mine.role) == token_of(theirs.secret, 1 - theirs.role)
    for one in (mine, theirs):
        assert one.day == 20_000
        assert NOON <= one.first < NOON + 5
        assert NOON + 590 < one.last <= NOON + 600
        # 40.2 dB over the first metre, 6 more over the second: 46.2, heard as -46 dBm.
        assert {sample.attenuation for sample in one.samples} == {46.0}
        assert len(one.samples) == pytest.approx(120, abs=2)


async def test_three_devices_have_three_different_secrets() -> None:
    clock = VirtualClock()
    air = Air(clock, BUSY)
    devices = [Device(air, clock, name, x) for name, x in (("alice", 0.0), ("bob", 1.0), ("carol", 3.0))]
    async with on_air(*devices):
        await clock.advance(600)
    found = [{one.secret for one in device.end()} for device in devices]
    assert [len(secrets) for secrets in found] == [2, 2, 2]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(found[one] & found[other]) == 1
    assert len(set.union(*found)) == 3


async def test_who_is_nearer_is_heard_nearer() -> None:
    clock = VirtualClock()
    air = Air(clock, CLEAR)
    alice, bob = Device(air, clock, "alice", 0.0), Device(air, clock, "bob", 1.0)
    async with on_air(alice, bob):
        await clock.advance(300)
        air.move(bob.radio, 10.0, 0.0)
        await clock.advance(300)
    (one,) = alice.end()
    assert {sample.attenuation for sample in one.samples if sample.at < NOON + 290} == {40.0}
    assert {sample.attenuation for sample in one.samples if sample.at > NOON + 305} == {60.0}


async def test_out_of_range_is_no_encounter() -> None:
    clock = VirtualClock()
    air = Air(clock, CLEAR)
    alice, bob = Device(air, clock, "alice", 0.0), Device(air, clock, "bob", 5000.0)
    async with on_air(alice, bob):
        await clock.advance(120)
    assert alice.end() == bob.end() == []


async def test_each_epoch_is_an_encounter_of_its_own() -> None:
    clock = VirtualClock(NOON - 300)
    air = Air(clock, BUSY)
    alice, bob = Device(air, clock, "alice", 0.0), Device(air, clock, "bob", 2.0)
    async with on_air(alice, bob):
        await clock.advance(1500)
    mine, theirs = alice.end(), bob.end()
    # An advertisement that arrives when only one of the two has changed may make a short one between.
    long = [one for one in mine if one.span > 100]
    assert len(long) == 3
    assert {one.secret for one in long} == {one.secret for one in theirs if one.span > 100}
    for one, begin, end in zip(long, (-300, 0, 900), (0, 900, 1200), strict=True):
        assert NOON + begin <= one.first <= NOON + begin + 30
        assert NOON + end - 30 <= one.last <= NOON + end + 2


async def test_finished_encounters_have_no_secret_key_left() -> None:
    clock = VirtualClock(NOON - 100)
    air = Air(clock, CLEAR)
    alice, bob = Device(air, clock, "alice", 0.0), Device(air, clock, "bob", 2.0)
    async with on_air(alice, bob):
        await clock.advance(100 + GRACE - 2)
        assert alice.finished == []
        await clock.advance(10)
        assert len(alice.finished) == 1
    alice.end()
    assert not any(own.key._secret for _, own in alice.epochs._history if own)


# --- frame by frame ---


class Listener:
    """One device that hears what a test makes up. It is on air from NOON on."""

    def __init__(self, correction: float = 0.0) -> None:
        self.epochs = Epochs(LENGTH, 0, Source("listener"))
        self.proximity = Proximity(self.epochs, correction)
        self.own = self.switch(NOON)

    def switch(self, at: float) -> OwnEpoch:
        own = self.epochs.fresh(at)
        self.epochs.switch(own, at)
        return own

    def hear(self, frame: Frame, at: float, rssi: int = -60) -> None:
        self.proximity.hear(Sighting(NOON + at, frame, rssi))

    def hear_all(self, block: bytes, at: float, rssi: int = -60) -> None:
        for index, frame in enumerate(carousel(block)):
            self.hear(frame, at + index, rssi)

    def end(self) -> list[Encounter]:
        return self.proximity.finish(self.epochs.destroy_all())


def peer_block(name: str = "peer", tx_power: int = 0) -> bytes:
    return Block(EpochKey(Source(name)(32)).ebid, tx_power).encode()


def times(encounters: Sequence[Encounter]) -> list[tuple[float, float]]:
    return [(one.first - NOON, one.last - NOON) for one in encounters]


def test_sightings_from_before_the_block_was_complete_count() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    for index, at in ((0, 0), (0, 5), (1, 20), (1, 40)):
        listener.hear(frames[index], at)
    assert listener.proximity.changed() == []
    assert len(listener.proximity) == 0
    listener.hear(frames[3], 100)
    (one,) = listener.end()
    assert times([one]) == [(0, 100)]
    assert [sample.at - NOON for sample in one.samples] == [0, 5, 20, 40, 100]


def test_a_block_may_take_a_whole_epoch_to_be_complete() -> None:
    """Two people who pass each other twice in an epoch, where reception is bad."""
    listener = Listener()
    frames = carousel(peer_block())
    for index, at in ((0, 1), (1, 10), (2, LENGTH - 10)):
        listener.proximity.expire(NOON + at)
        listener.hear(frames[index], at)
    (one,) = listener.end()
    assert times([one]) == [(1, LENGTH - 10)]


def test_what_was_heard_in_the_epoch_before_is_not_kept() -> None:
    listener = Listener()
    block, frames = peer_block(), carousel(peer_block("of a slow clock"))
    listener.hear_all(block, LENGTH - 10)
    for index, at in ((0, LENGTH - 2), (1, LENGTH + 2)):
        listener.hear(frames[index], at)
    listener.proximity.expire(NOON + LENGTH + GRACE - 1)
    assert len(listener.proximity._assembler) == 2
    listener.proximity.expire(NOON + LENGTH + GRACE)
    assert len(listener.proximity._assembler) == 1, "whose clock is slow is still on air"


@pytest.mark.parametrize("at", [-5, -0.1])
def test_nothing_counts_from_before_being_on_air(at: float) -> None:
    listener = Listener()
    listener.hear_all(peer_block(), at - 3)
    assert listener.end() == []


def test_an_own_ebid_coming_back_is_dropped() -> None:
    listener = Listener()
    listener.hear_all(listener.own.block, 0)
    second = listener.switch(NOON + LENGTH)
    listener.hear_all(listener.own.block, LENGTH)  # the former one, within the grace time
    listener.hear_all(second.block, LENGTH + 5)
    assert len(listener.proximity) == 0
    assert listener.proximity.heard == 0
    assert listener.end() == []


def test_a_sighting_belongs_to_what_was_on_air_when_it_was_heard() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    for index, at in ((0, LENGTH - 200), (1, LENGTH - 100)):
        listener.hear(frames[index], at)
    second = listener.switch(NOON + LENGTH)
    # Complete only after the change, and heard on both sides of it.
    listener.hear(frames[2], LENGTH + 10)
    listener.hear(frames[3], LENGTH - 50)  # taken in late
    listener.hear(frames[0], LENGTH + 20)
    before, after = listener.proximity.finish([listener.own]), listener.proximity.finish([second])
    assert times(before) == [(LENGTH - 200, LENGTH - 50)]
    assert times(after) == [(LENGTH + 10, LENGTH + 20)]
    assert before[0].secret != after[0].secret


def test_after_the_grace_time_nothing_is_added() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    listener.hear(frames[0], LENGTH - 20)
    listener.hear(frames[1], LENGTH - 10)
    listener.switch(NOON + LENGTH)
    assert listener.proximity.finish(listener.epochs.destroy(NOON + LENGTH + GRACE)) == []
    listener.hear(frames[2], LENGTH + GRACE + 1)
    assert times(listener.end()) == [(LENGTH + GRACE + 1, LENGTH + GRACE + 1)]


def test_attenuation_is_claimed_power_less_rssi_plus_correction() -> None:
    listener = Listener(correction=-3.5)
    listener.hear_all(peer_block(tx_power=-12), 0, rssi=-70)
    (one,) = listener.end()
    assert [sample.attenuation for sample in one.samples] == [-12 + 70 - 3.5]


def test_sightings_within_five_seconds_are_one_sample() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    for at, rssi in ((0, -50), (1, -53), (4.9, -56), (5, -70), (9, -80), (11, -90)):
        listener.hear(frames[int(at) % 4], at, rssi)
    (one,) = listener.end()
    assert [(sample.at - NOON, sample.attenuation) for sample in one.samples] == [(0, 53), (5, 75), (10, 90)]


def test_out_of_order_sightings_lose_no_time_and_make_none() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    for at in (10, 11, 12, 3, 30, 22, 31):
        listener.hear(frames[at % 4], at)
    (one,) = listener.end()
    assert times([one]) == [(10, 31)]
    starts = [sample.at for sample in one.samples]
    assert starts == sorted(set(starts))


def test_what_changed_is_told_once() -> None:
    listener = Listener()
    listener.hear_all(peer_block(), 0)
    (one,) = listener.proximity.changed()
    assert listener.proximity.changed() == []
    listener.hear(carousel(peer_block())[0], 20)
    (again,) = listener.proximity.changed()
    assert (one.secret, one.first) == (again.secret, again.first)
    assert times([again]) == [(0, 20)]
    assert len(one.samples) < len(again.samples)


def test_peers_heard_lately() -> None:
    listener = Listener()
    listener.hear_all(peer_block("one"), 0)
    listener.hear_all(peer_block("two"), 100)
    assert [listener.proximity.peers(NOON + since) for since in (0, 50, 103, 104)] == [2, 1, 1, 0]


def test_a_gadget_with_a_long_uuid_is_no_poor_reception() -> None:
    """Every 128-bit UUID may be a frame of macOS; one that stays the same is a slice of nobody's block."""
    listener = Listener()
    for at in range(0, 200, 10):
        for frame in Carriage().frames({}, {}, ["6e400001-b5a3-f393-e0a9-e50e24dcca9e"]):
            listener.hear(frame, at)
    assert listener.proximity.unread(NOON + 130, 60) == 0
    assert not listener.proximity.is_completing(NOON + 185)


def test_who_is_heard_too_poorly_is_told_and_waited_for() -> None:
    listener = Listener()
    frames = carousel(peer_block())
    listener.hear(frames[0], 0)
    assert listener.proximity.is_completing(NOON), "anybody new may be a person"
    for at in range(10, 200, 10):
        listener.hear(frames[at // 10 % 2], at)
        assert listener.proximity.is_completing(NOON + at - 5)
    assert listener.proximity.unread(NOON + 130, 60) == 1


# --- hostile ---


def with_key_id(ebid: bytes) -> bytes:
    return ebid + bytes([1, 0, 0, 0])


P = 2**255 - 19
LOW_ORDER = [
    number.to_bytes(32, "little")
    for number in (
        0,
        1,
        P - 1,
        P,
        P + 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
]
"""The points of low order on Curve25519, and the encodings of them that are not reduced (RFC 7748, section 7)."""


@pytest.mark.parametrize("ebid", LOW_ORDER, ids=lambda ebid: ebid.hex()[:8])
def test_an_ebid_of_low_order_is_nobody(ebid: bytes) -> None:
    listener = Listener()
    listener.hear_all(with_key_id(ebid), 0)
    assert listener.end() == []


def test_an_ebid_with_bit_255_set_is_nobody() -> None:
    listener = Listener()
    honest = EpochKey(Source("peer")(32)).ebid
    listener.hear_all(with_key_id(honest[:31] + bytes([honest[31] | 0x80])), 0)
    assert listener.end() == []
    listener.hear_all(with_key_id(bytes(31) + b"\x80"), 10)
    assert listener.end() == []


def test_a_hostile_ebid_leaves_the_honest_ones_alone() -> None:
    listener = Listener()
    for at in range(0, 60, 6):
        listener.hear_all(with_key_id(LOW_ORDER[0]), at)
        listener.hear_all(peer_block(), at + 1)
    assert times(listener.end()) == [(1, 58)]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(-127, 20)), max_size=60))
def test_garbage_is_nobody(heard: list[tuple[bytes, int]]) -> None:
    listener = Listener()
    for number, (data, rssi) in enumerate(heard):
        listener.hear(Frame.decode(data), number / 10, rssi)
    assert listener.end() == []


def test_forged_slices_under_a_peers_key_id_do_not_hide_it() -> None:
    listener = Listener()
    chance = random.Random(0)
    block = peer_block()
    for at in range(0, 120, 4):
        for index in range(4):
            listener.hear(Frame(index, key_id(block), chance.randbytes(12)), at)
        listener.hear_all(block, at)
    (one,) = listener.end()
    assert one.span >= 100


def test_forged_slices_heard_before_the_block_is_complete_are_no_sightings_of_it() -> None:
    listener = Listener()
    block = peer_block()
    for at in range(5):
        listener.hear(Frame(0, key_id(block), bytes([at]) * 12), at, rssi=-20)
    listener.hear_all(block, 10, rssi=-80)
    (one,) = listener.end()
    assert times([one]) == [(10, 13)]
    assert [sample.attenuation for sample in one.samples] == [80]


def test_a_flood_of_forged_key_ids_is_bounded() -> None:
    listener = Listener()
    chance = random.Random(1)
    frames = carousel(peer_block())
    flood = 3 * module.KEY_IDS
    for number in range(flood):
        listener.hear(Frame(chance.randrange(4), chance.randrange(2**30), chance.randbytes(12)), number / 100)
        if number % 100 == 0:
            listener.hear(frames[number // 100 % 4], number / 100)
    assert len(listener.proximity._early) <= module.KEY_IDS
    (one,) = listener.end()
    assert one.span >= flood / 100 - 5


def test_a_flood_under_one_key_id_is_bounded() -> None:
    listener = Listener()
    for number in range(10 * module.WAITING):
        listener.hear(Frame(0, 7, number.to_bytes(12, "big")), number / 100)
    assert [len(early) for early in listener.proximity._early.values()] == [module.WAITING]


def test_a_flood_of_made_up_peers_is_bounded_and_pushes_nobody_real_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS", 100)
    listener = Listener()
    real = peer_block("real")
    listener.hear_all(real, 0)
    secret = listener.proximity.changed()[0].secret
    for number in range(600):
        listener.hear_all(peer_block(f"forged {number}"), 10 + number / 10)
        if number % 50 == 0:
            listener.hear(carousel(real)[0], 10 + number / 10)
        assert len(listener.proximity) <= 100
    found = {one.secret: one for one in listener.end()}
    assert found[secret].span >= 55
    assert found[secret].samples
    assert len(found) == 601, "who was pushed out is told of, so that it can be forgotten"


def test_a_full_table_lets_newcomers_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS", 100)
    listener = Listener()
    for number in range(100):
        listener.hear_all(peer_block(f"forged {number}"), number / 10)
    for at in range(100, 200, 4):
        listener.hear_all(peer_block("real"), at)
        listener.hear_all(peer_block(f"forged {at}"), at)
    assert (100, 199) in times(listener.end())


def test_who_was_pushed_out_and_comes_back_is_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS", 2)
    listener = Listener()
    for at, name in ((0, "one"), (10, "two"), (20, "three"), (30, "one")):
        listener.hear_all(peer_block(name), at)
    found = listener.end()
    assert len(found) == 4
    assert len({one.secret for one in found}) == 3
