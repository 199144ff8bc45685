"""Files sealed under a passphrase in the age format, version 1: other tools (age, rage) open them too.

age-encryption.org/v1: a header with the file's key under scrypt, then ChaCha20-Poly1305 in chunks of 64 KiB, each
numbered and the last one marked, so that no chunk is altered, missing, moved or the last by mistake.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from backend_stub.keyring.sealing import Locked
from protocol.errors import Malformed

if TYPE_CHECKING:
    from typing import BinaryIO

    from backend_stub.keyring.passphrases import Passphrase
    from protocol.randomness import Random

WORK = 18  # log2 of scrypt's N, as age itself takes: 256 MiB and about a second
MOST_WORK = 22
CHUNK = 1 << 16
_KEY, _SALT, _NONCE, _TAG = 16, 16, 16, 16  # bytes
_HEADER_LIMIT = 1024
_HEADER = re.compile(
    rb"(age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---)"
    rb" ([A-Za-z0-9+/]{43})\n"
)


class Writer:
    """What is written goes sealed into a file; without `close` it cannot be opened."""

    def __init__(self, file: BinaryIO, passphrase: Passphrase, random: Random, work: int | None = None) -> None:
        self._file = file
        self._waiting = bytearray()
        work = work or WORK
        key, salt, nonce = random(_KEY), random(_SALT), random(_NONCE)
        wrapped = _wrapping(passphrase, salt, work).encrypt(bytes(12), key, None)
        head = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (_text(salt), work, _text(wrapped))
        file.write(head + b" " + _text(_mac(key, head)) + b"\n" + nonce)
        self._chunks = _Chunks(key, nonce)

    def write(self, data: bytes) -> int:
        """Seal this too."""
        self._waiting += data
        while len(self._waiting) > CHUNK:  # the last chunk, which is marked, is not empty
            self._file.write(self._chunks.seal(bytes(self._waiting[:CHUNK]), last=False))
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Seal the end."""
        self._file.write(self._chunks.seal(bytes(self._waiting), last=True))
        self._waiting.clear()


class Reader:
    """What is in such a file. Raises Locked for another passphrase, Malformed where it was altered or is cut."""

    def __init__(self, file: BinaryIO, passphrase: Passphrase, name: str) -> None:
        self._file = file
        self._name = name
        key = self._open_header(passphrase)
        nonce = file.read(_NONCE)
        if len(nonce) != _NONCE:
            raise self._broken()
        self._chunks = _Chunks(key, nonce)
        self._ready = b""
        self._next: bytes | None = file.read(CHUNK + _TAG)

    def _open_header(self, passphrase: Passphrase) -> bytes:
        header = b"".join(self._file.readline(_HEADER_LIMIT) for _ in range(4))
        found = _HEADER.fullmatch(header)
        if found is None or int(found[3]) > MOST_WORK:
            raise Malformed(f"{self._name} is not sealed by a passphrase as backups are; is it the right file?")
        try:
            key = _wrapping(passphrase, _bytes(found[2]), int(found[3])).decrypt(bytes(12), _bytes(found[4]), None)
        except InvalidTag:
            raise Locked(f"this is not the passphrase of {self._name}, or it was altered; try again") from None
        if not hmac.compare_digest(_text(_mac(key, found[1])), found[5]):
            raise self._broken()
        return key

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._ready and self._next is not None:
            chunk, self._next = self._next, self._file.read(CHUNK + _TAG)
            last = not self._next
            try:
                self._ready = self._chunks.open(chunk, last=last)
            except InvalidTag:
                raise self._broken() from None
            if last:
                self._next = None
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _broken(self) -> Malformed:
        return Malformed(f"{self._name} was altered or is cut; nothing was changed: take another backup")


class _Chunks:
    """The chunks of one file, each sealed or opened once."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
        self._number = 0

    def seal(self, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), chunk, None)

    def open(self, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.decrypt(self._nonce(last=last), chunk, None)

    def _nonce(self, *, last: bool) -> bytes:
        self._number += 1
        return (self._number - 1).to_bytes(11, "big") + bytes([last])


def _wrapping(passphrase: Passphrase, salt: bytes, work: int) -> ChaCha20Poly1305:
    scrypt = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << work, r=8, p=1)
    return ChaCha20Poly1305(scrypt.derive(passphrase))


def _mac(key: bytes, head: bytes) -> bytes:
    return hmac.digest(_derived(key, b"", b"header"), head, "sha256")


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))
