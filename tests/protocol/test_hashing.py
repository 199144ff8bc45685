"""Hashing: the vectors of RFC 9380, tags and length prefixes that keep uses apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_ecc.optimized_bls12_381 import field_modulus

from protocol import hashing
from protocol.curve import ORDER

if TYPE_CHECKING:
    from protocol.curve import Curve

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("rfc9380.json").read_text(encoding="utf-8"))
TAGS = {name: value for name, value in vars(hashing).items() if isinstance(value, bytes) and name.isupper()}


@pytest.mark.parametrize("case", VECTORS["expand"]["cases"], ids=lambda case: f"{case['message'][:9]}-{case['size']}")
def test_vectors_of_expand_message_xmd(case: dict[str, Any]) -> None:
    tag = VECTORS["expand"]["tag"].encode()
    assert hashing.expand(tag, case["message"].encode(), case["size"]).hex() == case["bytes"]


@pytest.mark.parametrize("case", VECTORS["hash_to_g1"]["cases"], ids=lambda case: case["message"][:9])
def test_vectors_of_hashing_to_g1(curve: Curve, case: dict[str, Any]) -> None:
    point = curve.hash_to_g1(VECTORS["hash_to_g1"]["tag"].encode(), case["message"].encode())
    x, y = int(case["x"], 16), int(case["y"], 16)
    flags = (1 << 383) | (int(y > (field_modulus - 1) // 2) << 381)
    assert point.encode() == (x | flags).to_bytes(48, "big")


@given(st.binary(max_size=255), st.binary(max_size=200), st.integers(0, 8160))
def test_expansion_has_the_size_asked_for(tag: bytes, message: bytes, size: int) -> None:
    assert len(hashing.expand(tag, message, size)) == size


@pytest.mark.parametrize(("tag", "size"), [(b"t" * 256, 32), (b"t", 8161)])
def test_expansion_beyond_the_rfc_is_an_error(tag: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="range"):
        hashing.expand(tag, b"", size)


@given(st.lists(st.binary(max_size=9), max_size=5), st.lists(st.binary(max_size=9), max_size=5))
def test_two_lists_of_parts_never_give_the_same_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (hashing.joined(*one) == hashing.joined(*other)) is (one == other)


def test_no_tag_stands_for_two_uses() -> None:
    assert len(set(TAGS.values())) == len(TAGS) >= 12
    assert all(tag.startswith(b"SPOT-V1-") for tag in TAGS.values())
    digests = {hashing.digest(tag, b"part") for tag in TAGS.values()}
    scalars = {hashing.to_scalar(tag, b"part") for tag in TAGS.values()}
    assert len(digests) == len(scalars) == len(TAGS)


@given(st.binary(max_size=50))
def test_a_scalar_is_below_the_order(part: bytes) -> None:
    assert 0 <= hashing.to_scalar(hashing.SHOW, part) < ORDER
    assert hashing.to_scalar(hashing.SHOW, part) != hashing.to_scalar(hashing.SHOW, part, b"")
