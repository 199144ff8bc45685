"""Blocks out of strangers' frames: what comes out is true, and what goes in stays bounded."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ble.assembly import BLOCKS, CANDIDATES, LIFETIME, REFILL, TRIALS, Assembler
from ble.frame import SLICE_SIZE, SLICES, Block, Frame, carousel, key_id
from tests.ble.strategies import blocks, frames

PEER = Block(bytes(range(32)), -7)
FRAMES = carousel(PEER.encode())
NAME = key_id(PEER.encode())


def forged(chance: random.Random, name: int | None = None, index: int | None = None) -> Frame:
    return Frame(
        chance.randrange(SLICES) if index is None else index,
        chance.getrandbits(30) if name is None else name,
        chance.randbytes(SLICE_SIZE),
    )


@given(blocks(), st.permutations(range(SLICES)))
def test_the_third_frame_gives_the_block_and_so_does_each_later_one(block: Block, order: list[int]) -> None:
    assembler = Assembler()
    heard = [carousel(block.encode())[index] for index in order]
    assert [assembler.add(frame, 0.0) for frame in heard + heard] == [None, None] + [block] * 6


def test_the_same_frame_over_and_over_gives_nothing() -> None:
    assembler = Assembler()
    assert not any(assembler.add(FRAMES[0], float(second)) for second in range(100))


@given(st.lists(frames(st.just(NAME)), max_size=40))
def test_no_forgery_makes_a_block(strangers: list[Frame]) -> None:
    assembler = Assembler()
    assert not any(assembler.add(frame, 0.0) for frame in strangers if frame not in FRAMES)


@given(st.lists(frames(), max_size=60), blocks())
def test_whatever_comes_out_hashes_to_its_key_id(strangers: list[Frame], block: Block) -> None:
    assembler = Assembler(capacity=8)
    for frame in [*strangers, *carousel(block.encode()), *strangers]:
        found = assembler.add(frame, 0.0)
        assert found is None or (key_id(found.encode()), found) == (frame.key_id, block)


@pytest.mark.parametrize("three", list(combinations(range(SLICES), 3)))
def test_a_forged_candidate_at_every_index_does_not_hide_the_block(three: tuple[int, ...]) -> None:
    chance = random.Random(1)
    assembler = Assembler()
    for index in range(SLICES):
        for _ in range(CANDIDATES - 1):
            assembler.add(forged(chance, NAME, index), 0.0)
    assert [assembler.add(FRAMES[index], 1.0) for index in three][-1] == PEER


def test_mixed_slices_of_two_blocks_give_neither() -> None:
    other = carousel(Block(bytes(32), 0).encode())
    assembler = Assembler()
    mixed = [FRAMES[0], FRAMES[1], Frame(2, NAME, other[2].slice), Frame(3, NAME, other[3].slice)]
    assert [assembler.add(frame, 0.0) for frame in mixed] == [None] * 4
    assert assembler.add(FRAMES[2], 0.0) == PEER


def test_a_forged_frame_is_not_taken_for_the_peer_whose_key_id_it_bears() -> None:
    assembler = Assembler()
    for frame in FRAMES:
        assembler.add(frame, 0.0)
    assert assembler.add(forged(random.Random(2), NAME), 1.0) is None
    assert assembler.add(FRAMES[0], 2.0) == PEER


def test_two_blocks_may_share_a_key_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2^30 hashes find such a pair; to save the time, only the first byte of the key id counts here.
    monkeypatch.setattr("ble.assembly.key_id", lambda data: NAME)
    monkeypatch.setattr("ble.frame.key_id", lambda data: NAME)
    twin = Block(bytes(32), 3)
    assembler = Assembler()
    for block in (twin, PEER):
        found = [assembler.add(frame, 0.0) for frame in carousel(block.encode())]
        assert found[-1] == block
    assert [assembler.add(frame, 1.0) for frame in carousel(twin.encode())] == [twin] * 4
    assert [assembler.add(frame, 1.0) for frame in FRAMES] == [PEER] * 4


def test_trials_are_bounded_and_come_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    trials = 0

    def counting(data: bytes) -> int:
        nonlocal trials
        trials += 1
        return key_id(data)

    monkeypatch.setattr("ble.assembly.key_id", counting)
    assembler = Assembler()
    for _ in range(1000):
        assembler.add(forged(chance, NAME), 0.0)
    assert trials == TRIALS
    assert [assembler.add(frame, 0.0) for frame in FRAMES] == [None] * 4
    assert trials == TRIALS
    for second in range(1, 20):
        for _ in range(10):
            assembler.add(forged(chance, NAME), float(second))
    assert trials <= TRIALS + 20 * REFILL


@pytest.mark.parametrize("burst", [16, 24])
def test_a_burst_now_and_then_hides_nobody(burst: int) -> None:
    """Far fewer forged frames than true ones, sent as what was used up by the last ones has just come back."""
    chance = random.Random(6)
    assembler = Assembler(lifetime=900)
    found = []
    for second in range(900):
        if second % 61 == 0:
            for number in range(burst):
                assembler.add(forged(chance, NAME, number % SLICES), float(second))
        if second % 2 == 0:
            found.append(assembler.add(FRAMES[second // 2 % SLICES], second + 0.5))
    assert found.count(PEER) > 0.95 * len(found)


def test_more_blocks_of_one_key_id_than_are_kept_hide_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^32 hashes find them; to save the time, every block has this key id here."""
    monkeypatch.setattr("ble.assembly.key_id", lambda data: NAME)
    monkeypatch.setattr("ble.frame.key_id", lambda data: NAME)
    assembler = Assembler()
    for number in range(BLOCKS):
        for frame in carousel(Block(bytes([number]) * 32, 0).encode()):
            assembler.add(frame, 0.0)
    assert [assembler.add(frame, 60.0 + at) for at, frame in enumerate(FRAMES * 2)][-4:] == [PEER] * 4


def test_a_flood_of_key_ids_leaves_alone_who_is_heard_again_and_again() -> None:
    chance = random.Random(4)
    assembler = Assembler(capacity=64)
    peers = [Block(bytes([number]) * 32, 0) for number in range(16)]
    for block in peers:
        for frame in carousel(block.encode()):
            assembler.add(frame, 0.0)
    for _ in range(10_000):
        assembler.add(forged(chance), 1.0)
        assert len(assembler) <= 64
    # One frame suffices: the block is still known.
    assert [assembler.add(carousel(block.encode())[0], 2.0) for block in peers] == peers


def test_a_flood_of_made_up_peers_does_not_push_out_who_is_heard_more_often() -> None:
    chance = random.Random(5)
    assembler = Assembler(capacity=64)
    peers = [Block(bytes([number]) * 32, 0) for number in range(32)]  # the whole regular half
    for block in peers:
        for frame in carousel(block.encode()) * 2:
            assembler.add(frame, 0.0)
    for _ in range(500):
        for frame in carousel(Block(chance.randbytes(32), 0).encode()):
            assembler.add(frame, 1.0)
    assert len(assembler) <= 64
    assert [assembler.add(carousel(block.encode())[1], 2.0) for block in peers] == peers


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 90)), max_size=150))
def test_no_regular_one_was_heard_less_often_than_is_taken_for_granted(heard: list[tuple[int, int, int]]) -> None:
    assembler = Assembler(capacity=8)
    at = 0.0
    for name, index, pause in heard:
        at += pause
        assembler.add(Frame(index, name, bytes(SLICE_SIZE)), at)
        assert all(entry.heard >= assembler._least for entry in assembler._regulars.values())


def test_a_newcomer_is_found_though_the_regular_half_is_full() -> None:
    assembler = Assembler(capacity=8)
    for number in range(16):
        for frame in carousel(Block(bytes([number]) * 32, 0).encode()) * 5:
            assembler.add(frame, 0.0)
    assert [assembler.add(frame, 1.0) for frame in FRAMES][2:] == [PEER, PEER]


def test_what_is_unheard_for_a_lifetime_is_forgotten() -> None:
    assembler = Assembler()
    assembler.add(FRAMES[0], 0.0)
    for frame in carousel(Block(bytes(32), 0).encode()):
        assembler.add(frame, 10.0)
    assembler.expire(LIFETIME + 1)
    assert len(assembler) == 1
    assert assembler.add(FRAMES[1], LIFETIME + 2) is None
    assert assembler.add(FRAMES[2], LIFETIME + 3) is None
    assembler.expire(3 * LIFETIME)
    assert len(assembler) == 0


def test_a_table_without_room_for_both_halves_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="room"):
        Assembler(capacity=1)
