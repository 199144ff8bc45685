"""Encounters: both sides and nobody else get E; what no honest device sends is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import encounter
from protocol.encounter import EpochKey
from protocol.errors import Malformed, Refused

SEEDS = st.binary(min_size=32, max_size=32)
METADATA = st.binary(min_size=4, max_size=4)

P = 2**255 - 19
LOW_ORDER = {
    "zero": 0,
    "one": 1,
    "order 8": 325606250916557431795983626356110631294008115727848805560023387167927233504,
    "order 8, other": 39382357235489614581723060781553021112529911719440698176882885853963445705823,
    "p - 1": P - 1,
    "p": P,
    "p + 1": P + 1,
}
ALICE, BOB, EVE = (EpochKey(hashlib.sha256(name).digest()) for name in (b"alice", b"bob", b"eve"))
PLAIN = b"\1\0\0\0"


def _meet(own: EpochKey, peer: EpochKey) -> bytes:
    return own.meet(own.ebid + PLAIN, peer.ebid + PLAIN)


@given(SEEDS, SEEDS, METADATA, METADATA)
def test_both_sides_get_the_same_secret_and_different_roles(
    one_seed: bytes, other_seed: bytes, one_data: bytes, other_data: bytes
) -> None:
    one, other = EpochKey(one_seed), EpochKey(other_seed)
    if one.ebid == other.ebid:
        return
    one_block, other_block = one.ebid + one_data, other.ebid + other_data
    secret = one.meet(one_block, other_block)
    assert secret == other.meet(other_block, one_block)
    assert len(secret) == 32
    roles = encounter.role_of(one_block, other_block), encounter.role_of(other_block, one_block)
    assert sorted(roles) == [0, 1]
    assert roles[0] == (0 if one.ebid < other.ebid else 1)


@given(SEEDS)
def test_an_ebid_is_a_public_key_with_bit_255_clear(seed: bytes) -> None:
    ebid = EpochKey(seed).ebid
    assert len(ebid) == 32
    assert not ebid[31] & 0x80


@pytest.mark.parametrize("at", range(4))
def test_metadata_altered_on_the_air_gives_the_two_sides_different_secrets(at: int) -> None:
    altered = bytearray(BOB.ebid + PLAIN)
    altered[32 + at] ^= 1
    heard = ALICE.meet(ALICE.ebid + PLAIN, bytes(altered))
    assert heard != _meet(BOB, ALICE)
    assert encounter.ccm_of(heard) != encounter.ccm_of(_meet(BOB, ALICE))


def test_who_heard_both_ebids_gets_another_secret() -> None:
    assert len({_meet(ALICE, BOB), _meet(EVE, ALICE), _meet(EVE, BOB)}) == 3


@pytest.mark.parametrize("point", LOW_ORDER.values(), ids=LOW_ORDER)
def test_points_of_low_order_are_refused(point: int) -> None:
    with pytest.raises(Refused, match="low order"):
        ALICE.meet(ALICE.ebid + PLAIN, point.to_bytes(32, "little") + PLAIN)


@pytest.mark.parametrize("ebid", [BOB.ebid, bytes(32), ALICE.ebid], ids=["another's", "zero", "own"])
def test_an_ebid_with_bit_255_set_is_malformed(ebid: bytes) -> None:
    """X25519 ignores that bit: without the check each EBID would have a double with another CCM."""
    with pytest.raises(Malformed, match="bit 255"):
        ALICE.meet(ALICE.ebid + PLAIN, ebid[:31] + bytes([ebid[31] | 0x80]) + PLAIN)


def test_the_own_ebid_coming_back_is_refused() -> None:
    for metadata in (PLAIN, bytes(4)):
        with pytest.raises(Refused, match="own EBID coming back"):
            ALICE.meet(ALICE.ebid + PLAIN, ALICE.ebid + metadata)


@pytest.mark.parametrize("size", [0, 32, 35, 37])
def test_a_block_of_another_size_is_malformed(size: int) -> None:
    block = (BOB.ebid + bytes(10))[:size]
    with pytest.raises(Malformed, match="36 bytes each"):
        ALICE.meet(ALICE.ebid + PLAIN, block)
    with pytest.raises(Malformed, match="36 bytes each"):
        ALICE.meet((ALICE.ebid + bytes(10))[:size], BOB.ebid + PLAIN)


def test_a_block_of_another_epoch_is_not_the_own_one() -> None:
    with pytest.raises(Malformed, match="own block"):
        ALICE.meet(EVE.ebid + PLAIN, BOB.ebid + PLAIN)


def test_a_destroyed_secret_meets_nobody() -> None:
    seed = bytes(range(32))
    key = EpochKey(seed)
    key.destroy()
    key.destroy()
    with pytest.raises(Refused, match="destroyed already"):
        _meet(key, BOB)
    assert key.ebid == EpochKey(seed).ebid
    assert not hasattr(key, "__dict__")
    assert key._secret is None


def test_a_key_prints_no_secret() -> None:
    assert bytes(range(32)).hex() not in repr(EpochKey(bytes(range(32))))


def test_ccm_and_tokens_are_unrelated() -> None:
    secret = _meet(ALICE, BOB)
    ccm, near, far = encounter.ccm_of(secret), encounter.token_of(secret, 0), encounter.token_of(secret, 1)
    assert (len(ccm), len(near), len(far)) == (32, 16, 16)
    assert len({secret[:16], ccm[:16], near, far}) == 4
    assert encounter.token_of(ccm, 0) not in {near, far}


@pytest.mark.parametrize(
    ("at", "epoch", "day"), [(0, 0, 0), (899.9, 0, 0), (900, 1, 0), (86399.9, 95, 0), (86400, 96, 1)]
)
def test_epochs_and_days_begin_when_they_should(at: float, epoch: int, day: int) -> None:
    assert encounter.epoch_of(at, 900) == epoch
    assert encounter.day_of(at) == day
