"""Chains: numbered, signed links, each carrying the hash of the one before. Parameters and publications are such.

An altered, missing, reordered or exchanged link is noticed; two users who are shown different chains have different
heads.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol import hashing
from protocol.errors import KeyChanged
from protocol.messages import Head, Link

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

EMPTY = Head(number=-1, hash=bytes(32))
"""The head of a chain without links."""


def sign(key: Ed25519PrivateKey, tag: bytes, body: bytes) -> Link:
    """A link over these exact bytes; the tag says which chain it belongs to."""
    return Link(body=body, signature=key.sign(hashing.joined(tag, body)))


def hash_of(tag: bytes, link: Link) -> bytes:
    """The link's hash, 32 bytes: what the next link carries."""
    return hashing.digest(tag, link.body)


def head_of(tag: bytes, link: Link, number: int) -> Head:
    """The head of a chain that ends with this link, whose body says it has this number."""
    return Head(number=number, hash=hash_of(tag, link))


def check_signature(key: bytes, tag: bytes, link: Link) -> None:
    """Check a link's signature under a 32-byte Ed25519 public key. Raises KeyChanged."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(link.signature, hashing.joined(tag, link.body))
    except (InvalidSignature, ValueError):
        raise KeyChanged(
            "what the authority sent is not signed with its key: it was altered on the way, or this is not the "
            "authority you joined; ask it, and trust nothing new until then"
        ) from None


def follow(head: Head, tag: bytes, link: Link, number: int, previous: bytes) -> Head:
    """The head after this link, whose body says it has this number and predecessor. Raises KeyChanged."""
    if number != head.number + 1:
        raise KeyChanged(
            f"expected number {head.number + 1} of the authority's chain, got {number}; it will be asked again"
        )
    if previous != head.hash:
        raise KeyChanged(
            "the authority's chain does not continue the one this device knows; you may be shown another one than "
            "other users are: ask the authority"
        )
    return head_of(tag, link, number)


def fingerprint(first: bytes) -> str:
    """The hash of a chain's first link for people to compare: 160 bits in eight groups of four letters and digits."""
    text = base64.b32encode(first[:20]).decode()
    return "-".join(text[index : index + 4] for index in range(0, len(text), 4))
