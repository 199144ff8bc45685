"""BLS12-381 behind one small interface, with two makers: arkworks (fast) and py_ecc (portable).

Groups are written additively. Both makers give the same bytes: the compressed encodings of the ZCash BLS12-381
format (48 bytes in G1, 96 in G2), and hashing to G1 by RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self, TypeVar

from protocol.errors import Malformed, Misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""r, the prime order of G1, G2 and GT."""

G1_SIZE = 48
G2_SIZE = 96
SCALAR_SIZE = 32

MAKERS = {"arkworks": "protocol.curve.arkworks", "py_ecc": "protocol.curve.portable"}


class Point(ABC):
    """A point of G1 or G2, in its subgroup; immutable, hashable."""

    __slots__ = ()

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def __neg__(self) -> Self: ...

    @abstractmethod
    def __rmul__(self, scalar: int) -> Self: ...

    @abstractmethod
    def __eq__(self, other: object) -> bool: ...

    @abstractmethod
    def __hash__(self) -> int: ...

    @abstractmethod
    def encode(self) -> bytes:
        """The compressed encoding."""

    @property
    @abstractmethod
    def is_identity(self) -> bool:
        """Whether this is the neutral element."""

    def __sub__(self, other: Self) -> Self:
        return self + (-other)


class G1(Point):
    """A point of G1."""

    __slots__ = ()


class G2(Point):
    """A point of G2."""

    __slots__ = ()


_P = TypeVar("_P", bound=Point)


class Curve(ABC):
    """One maker of BLS12-381 points."""

    name: str
    g1: G1
    g2: G2

    @abstractmethod
    def hash_to_g1(self, tag: bytes, message: bytes) -> G1:
        """H1(tag, message), RFC 9380."""

    @abstractmethod
    def sum_of_products(self, points: Sequence[G1], scalars: Sequence[int]) -> G1:
        """Σ scalar·point. Raises ValueError on unequal lengths; the empty sum is the identity."""

    @abstractmethod
    def pairing_product_is_one(self, pairs: Sequence[tuple[G1, G2]]) -> bool:
        """Whether Π e(P, Q) = 1."""

    @abstractmethod
    def read_g1(self, data: bytes) -> G1:
        """Decode 48 bytes, identity allowed, on the curve and in the subgroup; raises ValueError."""

    @abstractmethod
    def read_g2(self, data: bytes) -> G2:
        """Decode 96 bytes, identity allowed, on the curve and in the subgroup; raises ValueError."""

    def decode_g1(self, data: bytes, what: str) -> G1:
        """Decode a stranger's 48 bytes. Raises Malformed unless it is a point of G1 other than the identity."""
        return _checked(self.read_g1, data, G1_SIZE, what)

    def decode_g2(self, data: bytes, what: str) -> G2:
        """Decode a stranger's 96 bytes. Raises Malformed unless it is a point of G2 other than the identity."""
        return _checked(self.read_g2, data, G2_SIZE, what)


def _checked(read: Callable[[bytes], _P], data: bytes, size: int, what: str) -> _P:
    if len(data) != size:
        raise Malformed(f"{what} has {len(data)} bytes instead of {size}; it was cut or is of another version")
    try:
        point = read(data)
    except ValueError:
        raise Malformed(f"{what} is not a point of the group; the sender is broken or hostile") from None
    if point.is_identity:
        raise Malformed(f"{what} is the identity, which no honest party sends; the sender is broken or hostile")
    return point


def decode_scalar(data: bytes, what: str) -> int:
    """Decode 32 big-endian bytes. Raises Malformed unless below r."""
    value = int.from_bytes(data, "big")
    if len(data) != SCALAR_SIZE or value >= ORDER:
        raise Malformed(f"{what} is not a scalar of {SCALAR_SIZE} bytes below the group order; the sender is broken")
    return value


def encode_scalar(value: int) -> bytes:
    """32 big-endian bytes of a scalar in 0..r-1."""
    return value.to_bytes(SCALAR_SIZE, "big")


def open_curve(name: str | None = None) -> Curve:
    """The maker of this name ("arkworks" or "py_ecc"); None: arkworks where it is installed, else py_ecc.

    Raises Misuse for an unknown name or one that is not installed.
    """
    if name is None:
        try:
            return open_curve("arkworks")
        except Misuse:
            return open_curve("py_ecc")
    if name not in MAKERS:
        raise Misuse(f"there is no curve maker {name!r}; use one of {', '.join(MAKERS)}")
    try:
        module = importlib.import_module(MAKERS[name])
    except ImportError as error:
        raise Misuse(
            f"the curve maker {name} is not installed ({error.name}); pip install 'spot-agent[fast]'"
        ) from None
    curve: Curve = module.make()
    return curve
