"""The fast maker: arkworks, through the package py-arkworks-bls12381."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from protocol.curve import G1, G2, ORDER, Curve

if TYPE_CHECKING:
    from collections.abc import Sequence


class _ArkPoint:
    """What both groups share: a thin coat that takes Python integers as scalars."""

    __slots__ = ("raw",)
    _identity: ClassVar[Any]

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __add__(self, other: Self) -> Self:
        return type(self)(self.raw + other.raw)

    def __neg__(self) -> Self:
        return type(self)(-self.raw)

    def __rmul__(self, scalar: int) -> Self:
        return type(self)(self.raw * Scalar(scalar % ORDER))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and bool(self.raw == other.raw)

    def __hash__(self) -> int:
        return hash(self.encode())

    def encode(self) -> bytes:
        return bytes(self.raw.to_compressed_bytes())

    @property
    def is_identity(self) -> bool:
        return bool(self.raw == self._identity)


class _ArkG1(_ArkPoint, G1):
    __slots__ = ()
    _identity = G1Point.identity()


class _ArkG2(_ArkPoint, G2):
    __slots__ = ()
    _identity = G2Point.identity()


class Arkworks(Curve):
    """BLS12-381 by arkworks."""

    name = "arkworks"
    g1 = _ArkG1(G1Point())
    g2 = _ArkG2(G2Point())

    def hash_to_g1(self, tag: bytes, message: bytes) -> G1:
        return _ArkG1(G1Point.hash_to_curve(message, tag))

    def sum_of_products(self, points: Sequence[G1], scalars: Sequence[int]) -> G1:
        # The library's own call would cut the longer list without a word.
        if len(points) != len(scalars):
            raise ValueError("as many scalars as points are needed")
        raw = [cast("_ArkG1", point).raw for point in points]
        return _ArkG1(G1Point.multiexp_unchecked(raw, [Scalar(scalar % ORDER) for scalar in scalars]))

    def pairing_product_is_one(self, pairs: Sequence[tuple[G1, G2]]) -> bool:
        left = [cast("_ArkG1", point).raw for point, _ in pairs]
        right = [cast("_ArkG2", point).raw for _, point in pairs]
        return GT.pairing_check(left, right)

    def read_g1(self, data: bytes) -> G1:
        return _ArkG1(G1Point.from_compressed_bytes(data))

    def read_g2(self, data: bytes) -> G2:
        return _ArkG2(G2Point.from_compressed_bytes(data))


def make() -> Curve:
    """The maker."""
    return Arkworks()
