"""Parameters: a chain from the genesis, its keys, and what they say about days."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace as altered

from protocol import chain, hashing, parameters
from protocol.errors import KeyChanged, NotMine
from tests.protocol.alterations.chains import advance, next_parameters
from tests.support import DAY, ISSUER, OTHER_ISSUER, world_of

if TYPE_CHECKING:
    from tests.support import World


def test_a_genesis_begins_a_chain(world: World) -> None:
    trusted = parameters.begin(world.genesis)
    assert trusted.parameters == world.parameters
    assert trusted.head.number == 0
    assert trusted.head.hash == chain.hash_of(hashing.PARAMETERS, world.genesis) == world.parameters_hash


def test_another_genesis_has_another_fingerprint(world: World) -> None:
    other = parameters.begin(parameters.sign(world.chain_key, altered(world.parameters, authority="Another")))
    assert chain.fingerprint(other.head.hash) != chain.fingerprint(world.parameters_hash)


def test_a_rotated_chain_key_signs_what_follows(world: World) -> None:
    new = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    rotation = next_parameters(world, chain_key=new.public_key().public_bytes_raw())
    second = advance(world, parameters.sign(world.chain_key, rotation))
    third = altered(second.parameters, number=2, previous=second.head.hash)
    assert parameters.advance(second, parameters.sign(new, third)).head.number == 2


def test_two_links_after_one_have_two_heads(world: World) -> None:
    one = advance(world, parameters.sign(world.chain_key, next_parameters(world)))
    other = advance(world, parameters.sign(world.chain_key, next_parameters(world, issued_at=1)))
    assert one.head.number == other.head.number
    assert one.head.hash != other.head.hash
    following = altered(one.parameters, number=2, previous=one.head.hash)
    with pytest.raises(KeyChanged, match="does not continue"):
        parameters.advance(other, parameters.sign(world.chain_key, following))


def test_parameters_hold_until_they_run_out(world: World) -> None:
    parameters.check_validity(world.parameters, world.parameters.valid_until)
    with pytest.raises(KeyChanged, match="have run out"):
        parameters.check_validity(world.parameters, world.parameters.valid_until + 0.1)


def test_every_key_is_read_and_checked(world: World) -> None:
    keys = parameters.read_keys(world.curve, world.parameters)
    assert keys == world.keys
    assert set(keys.issuers) == {ISSUER, OTHER_ISSUER}
    assert set(keys.signers.groups) == {"north", "south"}
    with pytest.raises(NotMine, match="no longer in use"):
        keys.issuer(3)


@pytest.mark.parametrize("day", [DAY - 10, DAY, DAY + 30])
def test_a_credential_serves_in_its_period(day: int) -> None:
    parameters.check_issuer_day(world_of("arkworks").parameters, ISSUER, day)


@pytest.mark.parametrize(
    ("onset", "level"), [(DAY, 2), (DAY + 2, 2), (DAY + 3, 0), (DAY - 2, 2), (DAY - 3, 1), (DAY - 9, 1), (DAY - 10, 0)]
)
def test_the_level_follows_from_the_onset(onset: int, level: int) -> None:
    assert parameters.infectiousness_level(world_of("arkworks").parameters, onset, DAY) == level
