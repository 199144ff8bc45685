"""The carousel on air, with a sender that does as it is told."""

from __future__ import annotations

import asyncio
import random

import pytest

from ble.failure import failure
from ble.frame import Block, Frame, carousel
from ble.radio import RadioError, Reason
from ble.rotation import RETRY, RETRY_MAX, Rotation
from tests.ble.waiting import eventually

BLOCK = Block(b"b" * 32, 0).encode()
OTHER = Block(b"o" * 32, 0).encode()


class FakeSender:
    """Notes what is asked of it, and fails the next few times where told to."""

    def __init__(self) -> None:
        self.on_air: Frame | None = None
        self.shown: list[Frame] = []
        self.failures = 0

    async def show(self, frame: Frame) -> None:
        assert self.on_air is None, "the frame before is on air still"
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise failure(Reason.FAILED, "told to")
        self.on_air = frame
        self.shown.append(frame)

    async def hide(self) -> None:
        await asyncio.sleep(0)
        self.on_air = None


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.0))


async def test_all_four_frames_go_round() -> None:
    sender = FakeSender()
    rotation = Rotation(sender, dwell=0.001, chance=random.Random(1))
    await rotation.turn_to(BLOCK)
    await eventually(lambda: len(sender.shown) >= 12)
    await rotation.turn_to(None)
    assert sender.on_air is None
    for start in range(0, 12, 4):
        assert set(sender.shown[start : start + 4]) == set(carousel(BLOCK))


async def test_turning_at_once_from_many_sides_ends_with_the_last() -> None:
    sender = FakeSender()
    rotation = Rotation(sender, dwell=0.001)
    await asyncio.gather(*(rotation.turn_to(block) for block in (BLOCK, OTHER, BLOCK, OTHER)))
    before = len(sender.shown)
    await eventually(lambda: len(sender.shown) >= before + 8)
    await rotation.turn_to(None)
    assert set(sender.shown[before - 1 :]) == set(carousel(OTHER))


async def test_cancelled_while_it_ends_the_former_rotation_it_leaves_silence() -> None:
    sender = FakeSender()
    rotation = Rotation(sender, dwell=0.001)
    await rotation.turn_to(BLOCK)
    turning = asyncio.create_task(rotation.turn_to(OTHER))
    await asyncio.sleep(0)
    turning.cancel()
    await asyncio.wait({turning})
    before = len(sender.shown)
    await asyncio.sleep(0.02)
    assert sender.on_air is None
    assert len(sender.shown) == before


async def test_a_first_failure_is_the_caller_s_and_later_ones_are_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ble.rotation.RETRY", 0.001)
    sender = FakeSender()
    rotation = Rotation(sender, dwell=0.001)
    sender.failures = 1
    with pytest.raises(RadioError):
        await rotation.turn_to(BLOCK)
    assert rotation.trouble is None
    await rotation.turn_to(BLOCK)
    sender.failures = 3
    await eventually(lambda: rotation.trouble is not None)
    await eventually(lambda: rotation.trouble is None)
    sender.failures = 1_000_000
    await eventually(lambda: rotation.trouble is not None)
    await rotation.turn_to(None)
    assert rotation.trouble is None


def test_retries_come_more_and_more_slowly() -> None:
    rotation = Rotation(FakeSender(), dwell=1.5)
    waits = [rotation._wait(failures) for failures in (0, 1, 2, 3, 4, 5, 1000)]
    assert waits == [1.5, RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY, RETRY_MAX, RETRY_MAX]


def test_a_frame_stays_for_some_time() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Rotation(FakeSender(), dwell=0.0)
