"""The device's own EBIDs through the epochs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.epochs import GRACE, HISTORY, Epochs
from ble.frame import Block
from protocol.encounter import EpochKey
from protocol.errors import Refused
from tests.agent.clocks import NOON
from tests.support import Source

LENGTH = 900


def some_epochs(seed: str = "epochs") -> Epochs:
    return Epochs(LENGTH, -4, Source(seed))


def is_destroyed(key: EpochKey, block: bytes) -> bool:
    peer = Block(EpochKey(bytes(31) + b"\1").ebid, 0).encode()
    try:
        key.meet(block, peer)
    except Refused:
        return True
    return False


@given(st.floats(0, 4e9), st.integers(10, 86400))
def test_epochs_are_aligned_to_the_clock(at: float, length: int) -> None:
    own = Epochs(length, 0, Source("aligned")).fresh(at)
    assert own.ends % length == 0
    assert own.ends - length <= at < own.ends
    assert own.number == own.ends / length - 1


def test_the_block_is_ebid_and_metadata() -> None:
    own = some_epochs().fresh(NOON)
    assert own.block == own.key.ebid + bytes([1, 0xFC, 0, 0])  # version 1, -4 dBm


def test_a_key_is_fresh_every_time_also_within_an_epoch() -> None:
    epochs = some_epochs()
    assert len({epochs.fresh(NOON + number).key.ebid for number in range(5)}) == 5


def test_the_secret_outlives_its_epoch_by_the_grace_time_only() -> None:
    epochs = some_epochs()
    own = epochs.fresh(NOON)
    assert epochs.destroy(NOON + LENGTH) == []
    assert epochs.destroy(NOON + LENGTH + GRACE - 0.001) == []
    assert not is_destroyed(own.key, own.block)
    assert epochs.destroy(NOON + LENGTH + GRACE) == [own]
    assert is_destroyed(own.key, own.block)
    assert epochs.destroy(NOON + 10 * LENGTH) == []


def test_the_secret_is_gone_from_memory() -> None:
    epochs = some_epochs()
    own = epochs.fresh(NOON)
    epochs.destroy_all()
    assert own.key._secret is None


def test_a_clock_set_back_keeps_no_secret_alive() -> None:
    epochs = some_epochs()
    own = epochs.fresh(NOON + 10)
    assert epochs.destroy(NOON - LENGTH) == []  # by an epoch: a correction
    assert epochs.destroy(NOON - LENGTH - 1) == [own]
    assert is_destroyed(own.key, own.block)


def test_destroying_all() -> None:
    epochs = some_epochs()
    all_ = [epochs.fresh(NOON), epochs.fresh(NOON + LENGTH)]
    assert epochs.destroy_all() == all_
    assert all(is_destroyed(own.key, own.block) for own in all_)
    assert epochs.destroy_all() == []


def test_what_was_on_air_when() -> None:
    epochs = some_epochs()
    first, second = epochs.fresh(NOON), epochs.fresh(NOON + 900)
    epochs.switch(first, NOON)
    epochs.switch(None, NOON + 400)
    epochs.switch(second, NOON + 900.5)
    times = [NOON - 1, NOON, NOON + 399, NOON + 400, NOON + 900, NOON + 900.5, NOON + 9999]
    assert [epochs.on_air(at) for at in times] == [None, first, first, None, None, second, second]


def test_after_a_clock_was_set_back_the_latest_switch_counts() -> None:
    epochs = some_epochs()
    before, after = epochs.fresh(NOON), epochs.fresh(NOON - 500)
    epochs.switch(before, NOON)
    epochs.switch(after, NOON - 500)
    assert epochs.on_air(NOON - 500) is after
    assert epochs.on_air(NOON + 5) is after


def test_history_is_bounded_and_what_is_too_old_is_unknown() -> None:
    epochs = some_epochs()
    for number in range(3 * HISTORY):
        epochs.switch(epochs.fresh(NOON + number), NOON + number)
    assert epochs.on_air(NOON) is None
    assert epochs.on_air(NOON + 3 * HISTORY) is not None


def test_an_epoch_covers_its_time() -> None:
    epochs = some_epochs()
    own = epochs.fresh(NOON + 100)
    times = [NOON - 0.001, NOON, NOON + LENGTH - 0.001, NOON + LENGTH]
    assert [own.covers(at) for at in times] == [False, True, True, False]


def test_another_length_holds_from_the_next_key_on() -> None:
    epochs = some_epochs()
    before = epochs.fresh(NOON)
    epochs.length = 60
    after = epochs.fresh(NOON + 130)
    assert (before.begins, before.ends) == (NOON, NOON + LENGTH)
    assert (after.begins, after.ends) == (NOON + 120, NOON + 180)
    assert epochs.destroy(NOON + 180 + GRACE) == [after]
    assert epochs.destroy(NOON + LENGTH + GRACE) == [before]


def test_own_ebids_are_known_while_their_secrets_live() -> None:
    epochs = some_epochs()
    first, second = epochs.fresh(NOON), epochs.fresh(NOON + LENGTH)
    assert epochs.is_own(first.key.ebid)
    assert epochs.is_own(second.key.ebid)
    assert not epochs.is_own(bytes(32))
    epochs.destroy(NOON + LENGTH + GRACE)
    assert not epochs.is_own(first.key.ebid)


def test_nothing_secret_is_printed() -> None:
    own = some_epochs().fresh(NOON)
    assert own.key.ebid.hex() not in repr(own)
    assert repr(own.key.ebid)[2:-1] not in repr(own)


@pytest.mark.parametrize("tx_power", [-50, 0, 20])
def test_the_power_is_said(tx_power: int) -> None:
    own = Epochs(LENGTH, tx_power, Source("power")).fresh(NOON)
    assert Block.decode(own.block).tx_power == tx_power
