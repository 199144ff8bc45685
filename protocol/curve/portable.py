"""The portable maker and the reference: py_ecc, pure Python. One pairing takes about a second."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Self, cast

from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, compress_G2, decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import (
    FQ12,
    Z1,
    Z2,
    add,
    curve_order,
    eq,
    final_exponentiate,
    is_inf,
    multiply,
    neg,
    pairing,
)
from py_ecc.optimized_bls12_381 import G1 as GENERATOR_1
from py_ecc.optimized_bls12_381 import G2 as GENERATOR_2

from protocol.curve import G1, G1_SIZE, G2, ORDER, Curve

if TYPE_CHECKING:
    from collections.abc import Sequence


class _EccPoint:
    """What both groups share: py_ecc's projective triple in a coat."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __add__(self, other: Self) -> Self:
        return type(self)(add(self.raw, other.raw))

    def __neg__(self) -> Self:
        return type(self)(neg(self.raw))

    def __rmul__(self, scalar: int) -> Self:
        return type(self)(multiply(self.raw, scalar % ORDER))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and bool(eq(self.raw, other.raw))

    def __hash__(self) -> int:
        return hash(self.encode())

    def encode(self) -> bytes:
        raise NotImplementedError

    @property
    def is_identity(self) -> bool:
        return bool(is_inf(self.raw))


class _EccG1(_EccPoint, G1):
    __slots__ = ()

    def encode(self) -> bytes:
        return int(compress_G1(self.raw)).to_bytes(G1_SIZE, "big")


class _EccG2(_EccPoint, G2):
    __slots__ = ()

    def encode(self) -> bytes:
        first, second = compress_G2(self.raw)
        return int(first).to_bytes(G1_SIZE, "big") + int(second).to_bytes(G1_SIZE, "big")


class PyEcc(Curve):
    """BLS12-381 by py_ecc."""

    name = "py_ecc"
    g1 = _EccG1(GENERATOR_1)
    g2 = _EccG2(GENERATOR_2)

    def hash_to_g1(self, tag: bytes, message: bytes) -> G1:
        return _EccG1(hash_to_G1(message, tag, hashlib.sha256))

    def sum_of_products(self, points: Sequence[G1], scalars: Sequence[int]) -> G1:
        total: Any = Z1
        for point, scalar in zip(points, scalars, strict=True):
            total = add(total, multiply(cast("_EccG1", point).raw, scalar % ORDER))
        return _EccG1(total)

    def pairing_product_is_one(self, pairs: Sequence[tuple[G1, G2]]) -> bool:
        product: Any = FQ12.one()
        for left, right in pairs:
            product *= pairing(cast("_EccG2", right).raw, cast("_EccG1", left).raw, final_exponentiate=False)
        return bool(final_exponentiate(product) == FQ12.one())

    def read_g1(self, data: bytes) -> G1:
        return _EccG1(_in_subgroup(decompress_G1(_number(data)), Z1))

    def read_g2(self, data: bytes) -> G2:
        raw = decompress_G2((_number(data[:G1_SIZE]), _number(data[G1_SIZE:])))
        return _EccG2(_in_subgroup(raw, Z2))


def _number(data: bytes) -> Any:
    return int.from_bytes(data, "big")


def _in_subgroup(raw: Any, zero: Any) -> Any:
    # Decompression alone checks the curve equation only.
    if not eq(multiply(raw, curve_order), zero):
        raise ValueError("not in the subgroup of prime order")
    return raw


def make() -> Curve:
    """The maker."""
    return PyEcc()
