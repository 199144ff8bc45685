"""How this protocol hashes: versioned tags, length prefixes, hashing to scalars."""

from __future__ import annotations

import hashlib
import struct

from protocol.curve import ORDER

# One tag a use, so that no hash of one step can stand for another's.
ISSUER = b"SPOT-V1-ISSUER"
JOIN = b"SPOT-V1-JOIN"
SHOW = b"SPOT-V1-SHOW"
ENCOUNTER = b"SPOT-V1-ENCOUNTER"
CCM = b"SPOT-V1-CCM"
EXPOSURE = b"SPOT-V1-EXPOSURE"
NULLIFIER = b"SPOT-V1-NULLIFIER"
QUOTA = b"SPOT-V1-QUOTA"
PARTIAL = b"SPOT-V1-PARTIAL"
REPORT = b"SPOT-V1-REPORT"
OWN_WEIGHT = b"SPOT-V1-OWN-WEIGHT"
PARAMETERS = b"SPOT-V1-PARAMETERS"
PUBLICATION = b"SPOT-V1-PUBLICATION"

_SHA256_SIZE = 32
_SHA256_BLOCK = 64
_WIDE = 48  # bytes; 128 bits over the order's 255 make the bias of the reduction negligible


def joined(*parts: bytes) -> bytes:
    """Parts, each behind its length in 4 big-endian bytes, so that no two lists give the same bytes."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def number(value: int) -> bytes:
    """A count, index or day as 8 big-endian bytes."""
    return struct.pack(">Q", value)


def expand(tag: bytes, message: bytes, size: int) -> bytes:
    """RFC 9380, section 5.3.1: expand_message_xmd with SHA-256, to `size` ≤ 8160 bytes; tag ≤ 255 bytes."""
    suffix = tag + bytes([len(tag)])
    first = hashlib.sha256(bytes(_SHA256_BLOCK) + message + struct.pack(">H", size) + b"\0" + suffix).digest()
    block = hashlib.sha256(first + b"\1" + suffix).digest()
    blocks = [block]
    for index in range(2, -(-size // _SHA256_SIZE) + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block, strict=True))
        block = hashlib.sha256(mixed + bytes([index]) + suffix).digest()
        blocks.append(block)
    return b"".join(blocks)[:size]


def to_scalar(tag: bytes, *parts: bytes) -> int:
    """Hs(tag, parts): a scalar in 0..r-1."""
    return int.from_bytes(expand(tag, joined(*parts), _WIDE), "big") % ORDER


def digest(tag: bytes, *parts: bytes) -> bytes:
    """SHA-256 over tag and parts, each length-prefixed: 32 bytes."""
    return hashlib.sha256(joined(tag, *parts)).digest()
