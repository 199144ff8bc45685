"""Attack 8: a grid of passive sniffers, with everything published later (as corona-sniffer does for other systems).

The sniffers have every EBID that was on the air, where and when, every token that was published, and all the computing
they like but for breaking X25519. They look for the tokens among everything that can be computed of one or two EBIDs,
with keys of their own thrown in. Nothing matches: a token needs the secret of two devices.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ble.assembly import Assembler
from protocol import encounter, hashing
from tests.attacks.street import NEAR, Street, device, shared, start_of_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from tests.attacks.street import Antenna

PEOPLE = 4


def sniffed(antennas: Sequence[Antenna]) -> list[bytes]:
    """Every block that was on the air."""
    found: dict[bytes, None] = {}
    for antenna in antennas:
        assembler = Assembler()
        for caught in antenna.caught:
            block = assembler.add(caught.frame, caught.at)
            if block is not None:
                found[block.encode()] = None
    return list(found)


def guesses(blocks: Sequence[bytes]) -> Iterator[bytes]:
    """All that could be the secret of two devices whose blocks were heard."""
    own = encounter.EpochKey(bytes(range(32)))
    own_block = own.ebid + blocks[0][32:]
    for one in blocks:
        yield one[:32]
        yield own.meet(own_block, one)
    for one, other in itertools.combinations(blocks, 2):
        info = b"".join(sorted((one, other)))
        for shared_value in (
            b"",
            one[:32],
            other[:32],
            bytes(left ^ right for left, right in zip(one, other, strict=True)),
        ):
            yield HKDF(SHA256(), encounter.SECRET_SIZE, salt=hashing.ENCOUNTER, info=info).derive(shared_value)
        yield hashing.digest(hashing.CCM, info)


def sniff() -> tuple[set[bytes], set[bytes]]:
    """A street of people near each other, all of whom declare everything. Their tokens, and those the sniffers find."""
    street = Street()
    start_of_epoch(street.clock)
    people = [device(street.clock, seed) for seed in range(PEOPLE)]
    for at, one in enumerate(people):
        street.put(one, (float(at), 0.0))
    antennas = [street.attack((x, y)) for x in (0.0, 5.0) for y in (0.0, 5.0)]
    street.walk(3)
    street.leave()
    secrets = set.union(*(one.secrets for one in people))
    assert len(secrets) == PEOPLE * (PEOPLE - 1) / 2
    published = {encounter.token_of(secret, role) for secret in secrets for role in (0, 1)}
    blocks = sniffed(antennas)
    assert len(blocks) == PEOPLE
    found = {encounter.token_of(guess, role) for guess in guesses(blocks) for role in (0, 1)}
    return published, found


def test_sniffers_match_nothing() -> None:
    published, found = sniff()
    assert not published & found


def test_a_secret_made_of_what_is_broadcast_would_tell_them_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in the published proof of concept, whose CCM is a hash of two values that both are on the air.
    def meet(self: encounter.EpochKey, own_block: bytes, peer_block: bytes) -> bytes:
        info = b"".join(sorted((own_block, peer_block)))
        return HKDF(SHA256(), encounter.SECRET_SIZE, salt=hashing.ENCOUNTER, info=info).derive(b"")

    monkeypatch.setattr(encounter.EpochKey, "meet", meet)
    published, found = sniff()
    assert published <= found


def test_a_sniffer_that_takes_part_knows_its_own_meetings_only() -> None:
    street = Street()
    start_of_epoch(street.clock)
    left, right, active = (device(street.clock, seed) for seed in range(3))
    for one in (left, right, active):
        street.put(one, NEAR)
    street.walk(3)
    street.leave()
    assert shared(left, right)
    assert not active.secrets & shared(left, right)
    assert len(active.secrets) == 2
