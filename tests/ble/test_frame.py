"""Blocks and frames: their bytes, their limits, any three of four."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ble.frame import (
    BLOCK_SIZE,
    EBID_SIZE,
    FRAME_SIZE,
    SLICE_SIZE,
    SLICES,
    TX_POWER_MAX,
    TX_POWER_MIN,
    Block,
    Frame,
    FrameError,
    carousel,
    join,
    key_id,
)
from tests.ble.strategies import blocks

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "frame.json").read_text(encoding="utf-8")
)


def _name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["carousels"], ids=_name)
def test_vectors_of_carousels(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["block"])
    assert Block(bytes.fromhex(vector["ebid"]), vector["tx_power"]).encode() == data
    assert Block.decode(data) == Block(bytes.fromhex(vector["ebid"]), vector["tx_power"])
    assert key_id(data) == vector["key_id"]
    assert [frame.encode().hex() for frame in carousel(data)] == vector["frames"]


@pytest.mark.parametrize("vector", VECTORS["refused_blocks"], ids=_name)
def test_vectors_of_refused_blocks(vector: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        Block.decode(bytes.fromhex(vector["block"]))
    with pytest.raises(FrameError):
        carousel(bytes.fromhex(vector["block"]))


@given(blocks())
def test_a_block_comes_back_from_its_bytes(block: Block) -> None:
    assert len(block.encode()) == BLOCK_SIZE
    assert Block.decode(block.encode()) == block


@given(st.binary(max_size=64) | st.binary(min_size=BLOCK_SIZE, max_size=BLOCK_SIZE))
def test_other_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        block = Block.decode(data)
    except FrameError:
        return
    assert block.encode() == data


@given(st.integers(-200, 200).filter(lambda power: not TX_POWER_MIN <= power <= TX_POWER_MAX))
def test_a_block_with_impossible_power_cannot_be_made(power: int) -> None:
    with pytest.raises(FrameError, match="TX power"):
        Block(bytes(EBID_SIZE), power)


@given(st.binary(max_size=64).filter(lambda ebid: len(ebid) != EBID_SIZE))
def test_a_block_with_another_ebid_size_cannot_be_made(ebid: bytes) -> None:
    with pytest.raises(FrameError, match="EBID"):
        Block(ebid, 0)


@given(st.binary(min_size=FRAME_SIZE, max_size=FRAME_SIZE))
def test_every_sixteen_bytes_are_a_frame(data: bytes) -> None:
    frame = Frame.decode(data)
    assert frame.encode() == data
    assert 0 <= frame.index < SLICES
    assert 0 <= frame.key_id < 2**30


@given(st.binary(max_size=40).filter(lambda data: len(data) != FRAME_SIZE))
def test_no_other_size_is_a_frame(data: bytes) -> None:
    with pytest.raises(FrameError):
        Frame.decode(data)


@pytest.mark.parametrize(
    ("index", "name", "part"),
    [
        (-1, 0, bytes(SLICE_SIZE)),
        (SLICES, 0, bytes(SLICE_SIZE)),
        (0, -1, bytes(SLICE_SIZE)),
        (0, 2**30, bytes(SLICE_SIZE)),
        (0, 0, bytes(SLICE_SIZE - 1)),
        (0, 0, bytes(SLICE_SIZE + 1)),
    ],
)
def test_a_frame_out_of_range_cannot_be_made(index: int, name: int, part: bytes) -> None:
    with pytest.raises(FrameError):
        Frame(index, name, part)


@given(blocks())
def test_any_three_of_four_rebuild_the_block(block: Block) -> None:
    data = block.encode()
    for three in combinations(carousel(data), 3):
        for order in permutations(three):
            assert join({frame.index: frame.slice for frame in order}) == data


@given(blocks(), blocks())
def test_frames_of_different_blocks_have_different_key_ids(one: Block, other: Block) -> None:
    assert (key_id(one.encode()) == key_id(other.encode())) == (one == other)
