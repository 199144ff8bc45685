r"""Bytes sealed under a passphrase: scrypt (RFC 7914), then ChaCha20-Poly1305 (RFC 8439).

    "SPOT agent, moved 1\n" ‖ salt (16 bytes) ‖ verifier (32) ‖ sealed data, with its tag

scrypt gives 64 bytes: the key, and the verifier, by which another passphrase is told from an altered file. The work
is the same everywhere and takes 128 MiB. Not the age format of pyrage: that draws the work from a look at how quick the
machine is at the moment, and a slower or busier one then refuses the file.
"""

from __future__ import annotations

import hmac
import unicodedata
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from protocol.errors import Malformed, Misuse

if TYPE_CHECKING:
    from protocol.randomness import Random

SHORTEST = 12  # characters: whoever has the file can try as many as there is time for
HEAD = b"SPOT agent, moved 1\n"
_SALT, _KEY, _TAG = 16, 32, 16  # bytes
_NONCE = bytes(12)  # a salt's key seals once
_WORK = 1 << 17


def seal(data: bytes, passphrase: str, random: Random) -> bytes:
    """The data, sealed. Raises Misuse for a passphrase that is too short."""
    if len(passphrase) < SHORTEST:
        raise Misuse(f"a passphrase has at least {SHORTEST} characters, such as four words drawn at random")
    salt = random(_SALT)
    key, verifier = _derived(passphrase, salt)
    head = HEAD + salt + verifier
    return head + ChaCha20Poly1305(key).encrypt(_NONCE, data, head)


def unseal(sealed: bytes, passphrase: str, name: str) -> bytes:
    """The data again. Raises Malformed for another passphrase, another file, an altered or a cut one."""
    size = len(HEAD) + _SALT + _KEY
    head, body = sealed[:size], sealed[size:]
    if not sealed.startswith(HEAD):
        raise Malformed(f"{name} was not made by spot export of this version; is it the right file?")
    if len(body) < _TAG:
        raise _broken(name)
    key, verifier = _derived(passphrase, head[len(HEAD) : -_KEY])
    if not hmac.compare_digest(verifier, head[-_KEY:]):
        raise Malformed(f"this is not the passphrase of {name}, or its beginning was altered; try again")
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, body, head)
    except InvalidTag:
        raise _broken(name) from None


def _derived(passphrase: str, salt: bytes) -> tuple[bytes, bytes]:
    """Key and verifier; the same for what looks the same, whatever keyboard it is typed on."""
    scrypt = Scrypt(salt=salt, length=2 * _KEY, n=_WORK, r=8, p=1)
    both = scrypt.derive(unicodedata.normalize("NFC", passphrase).encode())
    return both[:_KEY], both[_KEY:]


def _broken(name: str) -> Malformed:
    return Malformed(
        f"{name} was altered or is cut; nothing was changed: copy it anew from the old device, or export there again"
    )
