"""From two devices that heard each other to their common contact message (*Set_CCM*).

The block of an EBID is what the radio carries: EBID (32 bytes) ‖ version ‖ TX power ‖ reserved, 36 bytes.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import hashing
from protocol.errors import Malformed, Refused

EBID_SIZE = 32
BLOCK_SIZE = 36
SECRET_SIZE = 32
TOKEN_SIZE = 16
SECONDS_A_DAY = 86400


def epoch_of(at: float, length: int) -> int:
    """The epoch that this moment (seconds since 1970) falls in; `length` in seconds."""
    return int(at // length)


def day_of(at: float) -> int:
    """The UTC day that this moment (seconds since 1970) falls in."""
    return int(at // SECONDS_A_DAY)


class EpochKey:
    """The X25519 key of one epoch. Its secret lives in this object only, and is gone with it."""

    __slots__ = ("_secret", "ebid")

    def __init__(self, seed: bytes | X25519PrivateKey) -> None:
        """seed: 32 fresh random bytes, of which a copy stays Python's; or what OpenSSL drew, and wipes when it goes."""
        own = seed if isinstance(seed, X25519PrivateKey) else X25519PrivateKey.from_private_bytes(seed)
        self._secret: X25519PrivateKey | None = own
        self.ebid = self._secret.public_key().public_bytes_raw()

    def destroy(self) -> None:
        """Forget the secret; `meet` refuses from now on."""
        self._secret = None

    def meet(self, own_block: bytes, peer_block: bytes) -> bytes:
        """The secret E of the encounter of these two blocks, 32 bytes; both sides get the same.

        Raises Malformed for a block of wrong size or an EBID with bit 255 set, Refused for one's own EBID, one of low
        order, or a destroyed secret.
        """
        if len(own_block) != BLOCK_SIZE or len(peer_block) != BLOCK_SIZE or own_block[:EBID_SIZE] != self.ebid:
            raise Malformed("an encounter needs the own block and a peer's, 36 bytes each")
        peer = peer_block[:EBID_SIZE]
        if peer[-1] & 0x80:
            raise Malformed("an EBID with bit 255 set was never made by an honest device")
        if peer == self.ebid:
            raise Refused("this is the device's own EBID coming back")
        if self._secret is None:
            raise Refused("the epoch's secret key is destroyed already; this sighting came too late")
        try:
            shared = self._secret.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:  # the library's word for an all-zero result
            raise Refused("this EBID is a point of low order, sent by nobody honest") from None
        info = b"".join(sorted((own_block, peer_block)))
        return HKDF(SHA256(), SECRET_SIZE, salt=hashing.ENCOUNTER, info=info).derive(shared)


def role_of(own_block: bytes, peer_block: bytes) -> int:
    """0 for the side whose EBID is smaller, else 1."""
    return 0 if own_block[:EBID_SIZE] < peer_block[:EBID_SIZE] else 1


def ccm_of(secret: bytes) -> bytes:
    """The common contact message of E: 32 bytes; all that proxies and server see of it."""
    return hashing.digest(hashing.CCM, secret)


def token_of(secret: bytes, role: int) -> bytes:
    """What the authority publishes when the side of this role (0 or 1) declared: 16 bytes."""
    return hashing.digest(hashing.EXPOSURE, secret, bytes([role]))[:TOKEN_SIZE]
