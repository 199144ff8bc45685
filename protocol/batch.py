"""Many equations checked at once (Ferrara, Green, Hohenberger, Pedersen, CT-RSA 2009).

A claim is the set of equations that one proof or signature must satisfy. Every equation of every claim gets a weight of
its own: with one weight for two equations of a proof, their errors can be chosen to cancel, and anything is forged.
Weights are drawn after all claims are fixed, here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import randomness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.curve import G1, G2, Curve
    from protocol.randomness import Random


@dataclass(frozen=True, slots=True)
class Linear:
    """Σ scalar·point = 0 in G1."""

    points: tuple[G1, ...]
    scalars: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.points) != len(self.scalars):
            raise ValueError("an equation needs as many scalars as points")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Π e(P, Q) = 1."""

    pairs: tuple[tuple[G1, G2], ...]


Claim = tuple[Linear | Pairing, ...]


def holds(curve: Curve, random: Random, claims: Sequence[Claim]) -> bool:
    """Whether every equation of every claim holds, but for a chance of 2^-128. Raises ValueError on none."""
    if not any(claims) or not all(claims):
        raise ValueError("there is nothing to check: an empty batch proves nothing")
    points: list[G1] = []
    scalars: list[int] = []
    against: dict[G2, tuple[list[G1], list[int]]] = {}
    for equation in (equation for claim in claims for equation in claim):
        weight = randomness.weight(random)
        if isinstance(equation, Linear):
            points.extend(equation.points)
            scalars.extend(weight * scalar for scalar in equation.scalars)
            continue
        for left, right in equation.pairs:
            column = against.setdefault(right, ([], []))
            column[0].append(left)
            column[1].append(weight)
    if not curve.sum_of_products(points, scalars).is_identity:
        return False
    sums = [(curve.sum_of_products(*column), right) for right, column in against.items()]
    return not sums or curve.pairing_product_is_one(sums)


def failing(curve: Curve, random: Random, claims: Sequence[Claim]) -> list[int]:
    """The indices of the claims that do not hold, found by halving; none for a good batch."""
    return sift(curve, random, claims, len(claims))[0]


def sift(curve: Curve, random: Random, claims: Sequence[Claim], most: int) -> tuple[list[int], list[int]]:
    """The indices of the claims that do not hold, up to `most` of them; and of those then not looked at one by one.

    All bad, a batch of n costs 2n - 1 such checks. Where somebody hostile makes it, its cost must have a bound: once
    `most` bad claims are known, a part of the rest that fails is left as it is.
    """
    bad: list[int] = []
    doubtful: list[int] = []
    parts = [range(len(claims))]
    while parts:
        part = parts.pop()
        if holds(curve, random, claims[part.start : part.stop]):
            continue
        if len(part) == 1:
            bad.append(part.start)
        elif len(bad) >= most:
            doubtful.extend(part)
        else:
            middle = len(part) // 2
            parts += (part[middle:], part[:middle])
    return bad, doubtful
