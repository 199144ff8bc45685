"""What attackers use: proofs made by hand, bytes that are almost group elements, and an authority to send things to."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from py_ecc.bls.point_compression import compress_G1, compress_G2, decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import G1 as GENERATOR_1
from py_ecc.optimized_bls12_381 import G2 as GENERATOR_2
from py_ecc.optimized_bls12_381 import add, field_modulus, is_inf, multiply

from protocol import batch, credential, declaration, messages, randomness
from protocol.curve import G1_SIZE, ORDER, encode_scalar
from protocol.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocol.batch import Claim
    from protocol.credential import IssuerKey, Statement
    from protocol.curve import G1
    from protocol.declaration import Reason
    from tests.support import World

COMPRESSED, INFINITE, LARGER = 1 << 383, 1 << 382, 1 << 381
"""The three flags of an encoded point."""


# --- proofs made by hand ---


@dataclass(frozen=True)
class Recipe:
    """What a show is made of, each part at the attacker's choice; what is left out is made honestly."""

    secret: int
    a: G1
    b: G1
    d: G1
    nullifiers: tuple[G1, ...] = ()
    k: G1 | None = None
    commitments: tuple[G1, ...] = ()
    nonce: int | None = None
    answer_more: int = 0


def honest_recipe(world: World, secret: int, s1: G1, s2: G1) -> Recipe:
    """The recipe of an honest show of the credential (S1, S2) on this secret."""
    blind = randomness.scalar(world.random)
    a = blind * s1
    return Recipe(secret, a, blind * s2, secret * a)


def prove(world: World, statement: Statement, recipe: Recipe) -> messages.Show:
    """The show of this recipe, its challenge computed as the verifier will."""
    nonce = recipe.nonce or randomness.scalar(world.random)
    first = (recipe.a.encode(), recipe.b.encode(), recipe.d.encode())
    k = (recipe.k or nonce * recipe.a).encode()
    # What the recipe has of them stands in for the first ones.
    honest = [(recipe.secret * base, nonce * base) for base in statement.bases]
    nullifiers = [*recipe.nullifiers, *(one for one, _ in honest[len(recipe.nullifiers) :])]
    commitments = [*recipe.commitments, *(one for _, one in honest[len(recipe.commitments) :])]
    encoded_nullifiers = tuple(one.encode() for one in nullifiers)
    encoded_commitments = tuple(one.encode() for one in commitments)
    challenge = credential._show_challenge(statement, first, k, encoded_nullifiers, encoded_commitments)
    return messages.Show(
        a=first[0],
        b=first[1],
        d=first[2],
        k=k,
        nullifiers=encoded_nullifiers,
        commitments=encoded_commitments,
        answer=encode_scalar((nonce + challenge * recipe.secret + recipe.answer_more) % ORDER),
    )


def prove_join(
    world: World, issuer: IssuerKey, secret: int, nonce: bytes, opening: bytes | None
) -> messages.JoinRequest:
    """A join request with a valid proof of `secret`, whatever stands in for the opening key."""
    public = (secret * world.curve.g1).encode()
    blind = randomness.scalar(world.random)
    challenge = credential._join_challenge(issuer, public, opening, nonce, blind * world.curve.g1)
    answer = encode_scalar((blind + challenge * secret) % ORDER)
    return messages.JoinRequest(
        nonce=nonce, public=public, opening=opening, challenge=encode_scalar(challenge), answer=answer
    )


def failing_equations(world: World, claim: Claim) -> list[int]:
    """The indices of those equations of the claim that do not hold by themselves."""
    return [index for index, equation in enumerate(claim) if not batch.holds(world.curve, world.random, [(equation,)])]


# --- an authority to send reports to ---


def receive(world: World, sealed: messages.SealedReport) -> None:
    """All that the authority checks of a report. Raises what it would refuse it with."""
    report = declaration.unseal(world.seal, sealed)
    body = messages.decode(messages.ReportBody, report.body)
    declaration.normal_code(body.code)
    issuer = world.keys.issuer(body.issuer)
    reasons = declaration.check_contacts(world.curve, world.random, world.rules, body.contacts, set())
    if any(reasons):
        raise Refused("; ".join(f"contact {index}: {why.text}" for index, why in enumerate(reasons) if why))
    digest = declaration.digest_of(report.body, sealed.parameters)
    declaration.check_ownership(world.curve, world.random, issuer, body.contacts, digest, report.ownership)


def declare(world: World, body: messages.ReportBody) -> None:
    """Prove ownership of the body as it is, seal it, send it in: what alice can do with any body she likes."""
    receive(world, world.sealed(world.report_of(body)))


def reasons_for(
    world: World, contacts: Sequence[messages.DeclaredContact], reported: frozenset[bytes] = frozenset()
) -> list[Reason]:
    """The authority's word on each contact."""
    return declaration.check_contacts(world.curve, world.random, world.rules, contacts, reported)


# --- bytes that are almost group elements ---


def _encoded(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(G1_SIZE, "big") for number in numbers)


def _point_1(x: int) -> tuple[object, object, object] | None:
    try:
        point: tuple[object, object, object] = decompress_G1(COMPRESSED | x)
    except ValueError:
        return None
    return point


def _point_2(x: int) -> tuple[object, object, object] | None:
    try:
        point: tuple[object, object, object] = decompress_G2((COMPRESSED, x))
    except ValueError:
        return None
    return point


@functools.cache
def bad_g1() -> dict[str, bytes]:
    """48 bytes each that are no point of G1 other than the identity, by what is wrong with them."""
    off = next(x for x in range(1, 100) if _point_1(x) is None)
    outside = next(point for x in range(1, 100) if (point := _point_1(x)) and not is_inf(multiply(point, ORDER)))
    shifted = add(GENERATOR_1, multiply(outside, ORDER))  # in the subgroup but for a part of cofactor order
    small = next(x for x in range(1, 100) if _point_1(x) is not None)
    generator = int(compress_G1(GENERATOR_1))
    return {
        "off the curve": _encoded(COMPRESSED | off),
        "outside the subgroup": _encoded(compress_G1(outside)),
        "shifted out of the subgroup": _encoded(compress_G1(shifted)),
        "of order three": _encoded(COMPRESSED),
        "of order three, other sign": _encoded(COMPRESSED | LARGER),
        "x not reduced": _encoded(COMPRESSED | (field_modulus + small)),
        "x the modulus": _encoded(COMPRESSED | field_modulus),
        "x all ones": _encoded(COMPRESSED | (LARGER - 1)),
        "not flagged as compressed": _encoded(generator & ~COMPRESSED),
        **{f"identity, {name}": _encoded(number) for name, number in _identities(generator).items()},
    }


@functools.cache
def bad_g2() -> dict[str, bytes]:
    """96 bytes each that are no point of G2 other than the identity, by what is wrong with them."""
    off = next(x for x in range(1, 100) if _point_2(x) is None)
    outside = next(point for x in range(1, 100) if (point := _point_2(x)) and not is_inf(multiply(point, ORDER)))
    shifted = add(GENERATOR_2, multiply(outside, ORDER))
    first, second = (int(number) for number in compress_G2(GENERATOR_2))
    return {
        "off the curve": _encoded(COMPRESSED, off),
        "outside the subgroup": _encoded(*compress_G2(outside)),
        "shifted out of the subgroup": _encoded(*compress_G2(shifted)),
        "x1 not reduced": _encoded(COMPRESSED | field_modulus, second),
        "x0 the modulus": _encoded(first, field_modulus),
        "flags on the second half": _encoded(first, second | COMPRESSED),
        "not flagged as compressed": _encoded(first & ~COMPRESSED, second),
        **{f"identity, {name}": _encoded(number, 0) for name, number in _identities(first).items()},
        "identity, second half not empty": _encoded(COMPRESSED | INFINITE, second),
    }


def _identities(generator: int) -> dict[str, int]:
    return {
        "canonical": COMPRESSED | INFINITE,
        "with a sign": COMPRESSED | INFINITE | LARGER,
        "not compressed": INFINITE,
        "x one": COMPRESSED | INFINITE | 1,
        "x one with a sign": COMPRESSED | INFINITE | LARGER | 1,
        "x of the generator": generator | INFINITE,
        "x the modulus": COMPRESSED | INFINITE | field_modulus,
    }


BAD_SCALARS = {
    "the order": ORDER.to_bytes(32, "big"),
    "the order and one": (ORDER + 1).to_bytes(32, "big"),
    "all ones": b"\xff" * 32,
}


def other_than(world: World, *taken: G1) -> G1:
    """A point of G1 that is none of these."""
    draw: Callable[[], G1] = lambda: randomness.scalar(world.random) * world.curve.g1  # noqa: E731
    point = draw()
    while point in taken:
        point = draw()
    return point
