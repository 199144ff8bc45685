"""The seal of a report around anything: what a stranger can do who has the authority's public key, as all have."""

from __future__ import annotations

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from protocol import hashing, messages

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_LATTICE = 1184  # bytes of an ML-KEM-768 public key


def sealed(plain: bytes, seal_key: bytes, parameters: bytes) -> messages.SealedReport:
    """These bytes, sealed as they are."""
    lattice, curve = seal_key[:_LATTICE], seal_key[_LATTICE:]
    key = hpke.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(lattice), X25519PublicKey.from_public_bytes(curve)
    )
    info = hashing.joined(hashing.REPORT, seal_key, parameters)
    return messages.SealedReport(parameters=parameters, sealed=_SUITE.encrypt(plain, key, info=info))


def padded(plain: bytes) -> bytes:
    """The bytes padded as an honest report is."""
    size = next(size for size in messages.REPORT_CLASSES if len(plain) + 4 <= size)
    return messages.pad(plain, size)
