"""Attack 19: X25519 points of low order and zeros; group elements off the curve, in the wrong subgroup, the identity.

A low-order EBID would make the secret of an encounter known to everybody. A group element outside the prime-order group
would let proofs hold that must not. Both are refused before they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from py_ecc.bls.point_compression import compress_G1
from py_ecc.optimized_bls12_381 import FQ, b, field_modulus, is_on_curve, multiply

from ble.frame import Block, carousel
from ble.radio import Sighting
from protocol import curve as curves
from protocol import encounter
from protocol.curve import ORDER
from protocol.errors import SpotError
from tests.attacks.street import device
from tests.backend_stub.support import Encounter, World
from tests.end_to_end.people import NOON, JumpingClock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import x25519

    from tests.attacks.street import Device

PRIME = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
    PRIME,
    PRIME + 1,
]
"""All u-coordinates of low order below 2^255 (https://cr.yp.to/ecdh.html)."""


def meet_low_order(number: int) -> Device:
    """Broadcast this number as an EBID beside a device."""
    victim = device(JumpingClock(), 1)
    victim.epochs.switch(victim.epochs.fresh(NOON), NOON)
    block = Block(number.to_bytes(32, "little"), 0).encode()
    for second in range(0, 120, 2):
        victim.proximity.hear(Sighting(NOON + second, carousel(block)[second // 2 % 4], -50))
    victim.encounters += victim.proximity.finish(victim.epochs.destroy_all())
    return victim


@pytest.mark.parametrize("number", LOW_ORDER)
def test_a_point_of_low_order_is_nobody(number: int) -> None:
    assert not meet_low_order(number).secrets


class Careless:
    """X25519 of a library that hands out a secret of zeros."""

    def __init__(self, honest: x25519.X25519PrivateKey) -> None:
        self._honest = honest

    def exchange(self, peer: x25519.X25519PublicKey) -> bytes:
        try:
            return self._honest.exchange(peer)
        except ValueError:
            return bytes(32)


def test_without_the_check_the_attacker_would_know_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = encounter.EpochKey.meet

    def meet(self: encounter.EpochKey, own_block: bytes, peer_block: bytes) -> bytes:
        monkeypatch.setattr(self, "_secret", Careless(self._secret))  # type: ignore[arg-type]
        return honest(self, own_block, peer_block)

    monkeypatch.setattr(encounter.EpochKey, "meet", meet)
    assert meet_low_order(0).secrets


# --- group elements ---


def outside() -> bytes:
    """A point of the curve outside the prime-order group, compressed."""
    x = 1
    while True:
        square = (pow(x, 3, field_modulus) + 4) % field_modulus
        y = pow(square, (field_modulus + 1) // 4, field_modulus)
        point = (FQ(x), FQ(y), FQ(1))
        if y * y % field_modulus == square and multiply(point, ORDER)[2] != FQ(0):
            assert is_on_curve(point, b)
            return int(compress_G1(point)).to_bytes(48, "big")
        x += 1


def off_the_curve() -> bytes:
    """An x that no point has, compressed."""
    x = next(x for x in range(1, 100) if pow((x**3 + 4) % field_modulus, (field_modulus - 1) // 2, field_modulus) != 1)
    return (x | 1 << 383).to_bytes(48, "big")


IDENTITY = bytes([0xC0]) + bytes(47)
BAD = {"outside": outside, "off the curve": off_the_curve, "identity": lambda: IDENTITY}


@pytest.mark.parametrize("kind", BAD)
async def test_the_backend_refuses_what_is_no_group_element(there: World, kind: str) -> None:
    bad: bytes = BAD[kind]()  # type: ignore[no-untyped-call]
    honest = await there.submission(await there.user(), Encounter())
    shows = [replace(honest.show, **{name: bad}) for name in ("a", "b", "d", "k")]
    shows += [replace(honest.show, **{name: (bad,)}) for name in ("nullifiers", "commitments")]
    for show in shows:
        altered = replace(honest, show=show)
        with pytest.raises(SpotError):
            await there.send_submission(altered)
        assert await there.refusal(altered), "past a proxy that does not look"
    await there.send_submission(honest)


def test_a_point_outside_the_group_would_pass_a_decoder_that_does_not_look() -> None:
    """What the library's unchecked decoder takes, and what adding such a point does to a nullifier: another user."""
    import py_arkworks_bls12381 as arkworks

    curve = curves.open_curve("arkworks")
    with pytest.raises(SpotError):
        curve.decode_g1(outside(), "a point")
    assert arkworks.G1Point.from_compressed_bytes_unchecked(outside()) is not None
