"""A curve that writes down what is computed on it, so that the same can be timed bare.

The floor of a measurement is the list of group operations that one run of it made, each called again on the very same
operands, on the library's own functions, without anything of this project around it. What the run decodes or hashes to
the curve more than once is in the floor once. Encodings and comparisons are left out of it: they are counted as cost of
this project.
"""

# ruff: noqa: D102 - what a method does is said by Bare and by Curve
from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from protocol.curve import G1, G2, ORDER, Curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Bare(Protocol):
    """A library's own functions, ready to be called: operands are made ahead, so that only the operation is timed."""

    def add(self, left: Any, right: Any) -> Callable[[], object]:
        """The sum left + right."""

    def negate(self, point: Any) -> Callable[[], object]:
        """-point."""

    def multiply(self, point: Any, scalar: int) -> Callable[[], object]:
        """scalar·point."""

    def hash_to_g1(self, tag: bytes, message: bytes) -> Callable[[], object]:
        """H1(tag, message)."""

    def sum_of_products(self, points: list[Any], scalars: list[int]) -> Callable[[], object]:
        """Σ scalar·point."""

    def pairing_product(self, left: list[Any], right: list[Any]) -> Callable[[], object]:
        """Π e(P, Q)."""

    def read_g1(self, data: bytes) -> Callable[[], object]:
        """Decode, and check curve and subgroup."""

    def read_g2(self, data: bytes) -> Callable[[], object]:
        """Decode, and check curve and subgroup."""


class BareArkworks:
    """py_arkworks_bls12381 without a coat."""

    def __init__(self) -> None:
        import py_arkworks_bls12381 as library  # an optional package

        self._library = library

    def add(self, left: Any, right: Any) -> Callable[[], object]:
        return lambda: left + right

    def negate(self, point: Any) -> Callable[[], object]:
        return lambda: -point

    def multiply(self, point: Any, scalar: int) -> Callable[[], object]:
        number = self._library.Scalar(scalar)
        return lambda: point * number

    def hash_to_g1(self, tag: bytes, message: bytes) -> Callable[[], object]:
        function = self._library.G1Point.hash_to_curve
        return lambda: function(message, tag)

    def sum_of_products(self, points: list[Any], scalars: list[int]) -> Callable[[], object]:
        function = self._library.G1Point.multiexp_unchecked
        numbers = [self._library.Scalar(scalar) for scalar in scalars]
        return lambda: function(points, numbers)

    def pairing_product(self, left: list[Any], right: list[Any]) -> Callable[[], object]:
        function = self._library.GT.pairing_check
        return lambda: function(left, right)

    def read_g1(self, data: bytes) -> Callable[[], object]:
        function = self._library.G1Point.from_compressed_bytes
        return lambda: function(data)

    def read_g2(self, data: bytes) -> Callable[[], object]:
        function = self._library.G2Point.from_compressed_bytes
        return lambda: function(data)


class BarePyEcc:
    """py_ecc without a coat. Its decompression checks no subgroup: one multiplication by r does, as everywhere."""

    def __init__(self) -> None:
        from py_ecc import optimized_bls12_381  # slow to import, and often not wanted
        from py_ecc.bls import hash_to_curve, point_compression

        self._group: Any = optimized_bls12_381
        self._hash: Any = hash_to_curve.hash_to_G1
        self._coding: Any = point_compression

    def add(self, left: Any, right: Any) -> Callable[[], object]:
        return lambda: self._group.add(left, right)

    def negate(self, point: Any) -> Callable[[], object]:
        return lambda: self._group.neg(point)

    def multiply(self, point: Any, scalar: int) -> Callable[[], object]:
        return lambda: self._group.multiply(point, scalar)

    def hash_to_g1(self, tag: bytes, message: bytes) -> Callable[[], object]:
        return lambda: self._hash(message, tag, hashlib.sha256)

    def sum_of_products(self, points: list[Any], scalars: list[int]) -> Callable[[], object]:
        def total() -> object:
            result = self._group.Z1
            for point, scalar in zip(points, scalars, strict=True):
                result = self._group.add(result, self._group.multiply(point, scalar))
            return result

        return total

    def pairing_product(self, left: list[Any], right: list[Any]) -> Callable[[], object]:
        def product() -> object:
            result = self._group.FQ12.one()
            for one, two in zip(left, right, strict=True):
                result *= self._group.pairing(two, one, final_exponentiate=False)
            return self._group.final_exponentiate(result)

        return product

    def read_g1(self, data: bytes) -> Callable[[], object]:
        number = int.from_bytes(data, "big")
        return lambda: self._group.multiply(self._coding.decompress_G1(number), ORDER)

    def read_g2(self, data: bytes) -> Callable[[], object]:
        numbers = int.from_bytes(data[:48], "big"), int.from_bytes(data[48:], "big")
        return lambda: self._group.multiply(self._coding.decompress_G2(numbers), ORDER)


BARE: dict[str, Callable[[], Bare]] = {"arkworks": BareArkworks, "py_ecc": BarePyEcc}


@dataclass(frozen=True)
class Counts:
    """How many operations; of sums of products their sizes, and of pairing products how many pairings each has."""

    multiplications: int = 0
    hashes: int = 0
    decodings: int = 0
    sums: tuple[int, ...] = ()
    pairings: tuple[int, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.multiplications + other.multiplications,
            self.hashes + other.hashes,
            self.decodings + other.decodings,
            tuple(sorted(self.sums + other.sums)),
            tuple(sorted(self.pairings + other.pairings)),
        )

    def __mul__(self, times: int) -> Counts:
        return sum((self for _ in range(times)), Counts())

    def __str__(self) -> str:
        sums, pairings = ("+".join(map(str, sizes)) or "0" for sizes in (self.sums, self.pairings))
        plain = f"{self.hashes} hashes, {self.decodings} decodings, {self.multiplications} multiplications"
        return f"{plain}, sums of {sums} terms, {pairings} pairings"


@dataclass
class Trace:
    """What was computed: kinds with their sizes, and the same again as bare calls."""

    bare: Bare
    kinds: Counter[str] = field(default_factory=Counter)
    sums: list[int] = field(default_factory=list)
    pairings: list[int] = field(default_factory=list)
    calls: list[Callable[[], object]] = field(default_factory=list)
    seen: set[tuple[bytes, ...]] = field(default_factory=set)

    def note(self, kind: str, call: Callable[[], object]) -> None:
        """Write one operation down."""
        self.kinds[kind] += 1
        self.calls.append(call)

    def note_once(self, kind: str, call: Callable[[], object], *data: bytes) -> None:
        """Write one operation down, unless it was done on the same bytes before."""
        if data not in self.seen:
            self.seen.add(data)
            self.note(kind, call)

    def clear(self) -> None:
        """Start anew."""
        self.kinds.clear()
        self.seen.clear()
        for entries in (self.sums, self.pairings, self.calls):
            entries.clear()

    def counts(self) -> Counts:
        """The operations that matter; additions and negations are in the floor, but too cheap to list."""
        return Counts(
            multiplications=self.kinds["multiply"],
            hashes=self.kinds["hash"],
            decodings=self.kinds["read"],
            # The empty sum is no work.
            sums=tuple(sorted(size for size in self.sums if size)),
            pairings=tuple(sorted(self.pairings)),
        )

    def replay(self) -> None:
        """Compute the same again, bare."""
        for call in self.calls:
            call()


class _CountedPoint:
    """What both groups share: the maker's point, and where to write down what is done with it."""

    __slots__ = ("inner", "trace")

    def __init__(self, inner: Any, trace: Trace) -> None:
        self.inner = inner
        self.trace = trace

    def __add__(self, other: Self) -> Self:
        self.trace.note("add", self.trace.bare.add(self.inner.raw, other.inner.raw))
        return type(self)(self.inner + other.inner, self.trace)

    def __neg__(self) -> Self:
        self.trace.note("negate", self.trace.bare.negate(self.inner.raw))
        return type(self)(-self.inner, self.trace)

    def __rmul__(self, scalar: int) -> Self:
        self.trace.note("multiply", self.trace.bare.multiply(self.inner.raw, scalar % ORDER))
        return type(self)(scalar * self.inner, self.trace)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and bool(self.inner == other.inner)

    def __hash__(self) -> int:
        return hash(self.inner)

    def encode(self) -> bytes:
        return bytes(self.inner.encode())

    @property
    def is_identity(self) -> bool:
        return bool(self.inner.is_identity)


class _CountedG1(_CountedPoint, G1):
    __slots__ = ()


class _CountedG2(_CountedPoint, G2):
    __slots__ = ()


class CountingCurve(Curve):
    """A maker's curve whose every operation is written down in `trace`."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self.trace = Trace(BARE[curve.name]())
        self.name = curve.name
        self.g1 = _CountedG1(curve.g1, self.trace)
        self.g2 = _CountedG2(curve.g2, self.trace)

    def hash_to_g1(self, tag: bytes, message: bytes) -> G1:
        self.trace.note_once("hash", self.trace.bare.hash_to_g1(tag, message), tag, message)
        return _CountedG1(self._curve.hash_to_g1(tag, message), self.trace)

    def sum_of_products(self, points: Sequence[Any], scalars: Sequence[int]) -> G1:
        inner = [point.inner for point in points]
        raw = [point.raw for point in inner]
        self.trace.note("sum", self.trace.bare.sum_of_products(raw, [scalar % ORDER for scalar in scalars]))
        self.trace.sums.append(len(points))
        return _CountedG1(self._curve.sum_of_products(inner, scalars), self.trace)

    def pairing_product_is_one(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        inner = [(left.inner, right.inner) for left, right in pairs]
        raw = [left.raw for left, _ in inner], [right.raw for _, right in inner]
        self.trace.note("pair", self.trace.bare.pairing_product(*raw))
        self.trace.pairings.append(len(pairs))
        return self._curve.pairing_product_is_one(inner)

    def read_g1(self, data: bytes) -> G1:
        self.trace.note_once("read", self.trace.bare.read_g1(data), data)
        return _CountedG1(self._curve.read_g1(data), self.trace)

    def read_g2(self, data: bytes) -> G2:
        self.trace.note_once("read", self.trace.bare.read_g2(data), data)
        return _CountedG2(self._curve.read_g2(data), self.trace)
