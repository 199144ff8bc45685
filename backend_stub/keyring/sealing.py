"""How the keys of a part are sealed at rest.

Each part's folder `keys` may hold a file `lock`: a random key, sealed under a passphrase (scrypt, ChaCha20-Poly1305).
Every other file there is then sealed under that key, with its name authenticated. So another passphrase means one
small file, and processes that hold the lock's key need not ask again. Without a lock the keys are plain.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from backend_stub.keyring import memory, passphrases
from protocol.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from backend_stub.keyring.passphrases import Passphrase

FOLDER = "keys"
LOCK = "lock"
FRESH = ".new"  # ends the name of a file that is being written
SEALED = b"SPOT-V1-SEALED-KEY\n"
LOCKED = b"SPOT-V1-KEY-LOCK\n"
WORK = 17  # log2 of scrypt's N: 128 MiB and some tenths of a second for each guess
MOST_WORK = 22
_KEY, _SALT, _NONCE, _TAG = 32, 16, 12, 16  # bytes

_open: dict[Path, bytes] = {}
"""The lock's key of each part that this process has unlocked."""


class Locked(StorageError):
    """The keys are sealed, and their passphrase is missing or wrong."""

    slug = "locked"
    exit_code = 34


# --- files ---


def write_file(target: Path, data: bytes) -> None:
    """Write a file that only its owner can read; it is there whole, or as it was before. Raises StorageError."""
    fresh = target.with_name(target.name + FRESH)
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            give_to_owner(file.fileno(), target.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise StorageError(
            f"the key {target} cannot be written ({error.strerror}); make room or mend its folder"
        ) from None


def give_to_owner(handle: int, folder: Path) -> None:
    """Let a file that root made belong to whom its folder belongs to: with sudo, the part could not read it else."""
    if os.name == "posix" and os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    """Have what was renamed on the disk, in this order: a sealed key without its lock would be lost."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_file(file: Path) -> bytes:
    """What is in a file that nobody else can read. Raises StorageError."""
    try:
        passphrases.check_private(file)
        return file.read_bytes()
    except PermissionError:
        raise StorageError(
            f"the key {file} is not this user's to read; be the user that the part runs as, or type: "
            f"chown --reference={file.parent.parent} {file}"
        ) from None
    except OSError as error:
        raise StorageError(
            f"the key {file} cannot be read ({error.strerror}); bring it back from a backup, or make a new backend"
        ) from None


def names(part: Path) -> list[str]:
    """The names of a part's keys."""
    return sorted(file.name for file in _files(part))


def _files(part: Path) -> Iterator[Path]:
    return (one for one in (part / FOLDER).glob("*") if one.name != LOCK and not one.name.endswith(FRESH))


def has_lock(part: Path) -> bool:
    """Whether this part's keys are sealed."""
    return (part / FOLDER / LOCK).exists()


# --- keys ---


def write(part: Path, name: str, secret: bytes) -> None:
    """Write a key, sealed if the part has a lock. Raises StorageError, Locked."""
    target = part / FOLDER / name
    if name == LOCK or name.endswith(FRESH):
        raise ValueError(name)
    write_file(target, _seal(unlock(part), name, secret) if has_lock(part) else secret)


def read(part: Path, name: str) -> bytes:
    """A key. Raises StorageError where it is missing, damaged or open to others, Locked without the passphrase."""
    file = part / FOLDER / name
    data = read_file(file)
    if not has_lock(part):
        if data.startswith(SEALED):
            raise StorageError(
                f"{part / FOLDER / LOCK} is missing, and the keys are sealed; bring it back from a backup"
            )
        return data
    if not data.startswith(SEALED):
        raise StorageError(
            f"{file} is not sealed, but others are; type: spot-backend passphrase {part}, and it will be (or --remove)"
        )
    return _unseal(unlock(part), file, data)


def _seal(key: bytes, name: str, secret: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return SEALED + nonce + ChaCha20Poly1305(key).encrypt(nonce, secret, SEALED + name.encode())


def _unseal(key: bytes, file: Path, data: bytes) -> bytes:
    nonce, sealed = data[len(SEALED) :][:_NONCE], data[len(SEALED) + _NONCE :]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, SEALED + file.name.encode())
    except (InvalidTag, ValueError):
        raise StorageError(f"the key {file} is damaged, or not of this part; bring it back from a backup") from None


# --- the lock ---


def unlock(part: Path) -> bytes:
    """The key of this part's lock; the passphrase is looked for where it was not given before. Raises Locked."""
    here = part.resolve()
    if here not in _open:
        _open[here] = passphrases.first_that_opens(lambda passphrase: _open_lock(part, passphrase), str(part), Locked)
    return _open[here]


def forget() -> None:
    """Be as locked as in the beginning."""
    _open.clear()
    passphrases.forget()


def _open_lock(part: Path, passphrase: Passphrase) -> bytes | None:
    """The lock's key, or None for a wrong passphrase. Raises StorageError."""
    file = part / FOLDER / LOCK
    data = read_file(file)
    work, rest = data[len(LOCKED) :][:1], data[len(LOCKED) + 1 :]
    if not data.startswith(LOCKED) or len(rest) != _SALT + _NONCE + _KEY + _TAG or work[0] > MOST_WORK:
        raise StorageError(f"{file} is damaged; bring it back from a backup")
    salt, nonce, sealed = rest[:_SALT], rest[_SALT:][:_NONCE], rest[_SALT + _NONCE :]
    try:
        with _stretched(passphrase, salt, work[0]) as cipher:
            return cipher.decrypt(nonce, sealed, LOCKED)
    except InvalidTag:
        return None


def _close_lock(part: Path, key: bytes, passphrase: Passphrase) -> None:
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    with _stretched(passphrase, salt, WORK) as cipher:
        sealed = cipher.encrypt(nonce, key, LOCKED)
    write_file(part / FOLDER / LOCK, LOCKED + bytes([WORK]) + salt + nonce + sealed)


@contextmanager
def _stretched(passphrase: Passphrase, salt: bytes, work: int) -> Iterator[ChaCha20Poly1305]:
    """What the passphrase seals with, until the end of the block."""
    key = bytearray(_KEY)
    try:
        Scrypt(salt=salt, length=_KEY, n=1 << work, r=8, p=1).derive_into(passphrase, key)
        yield ChaCha20Poly1305(key)
    finally:
        memory.wipe(key)


def seal_all(part: Path, passphrase: Passphrase) -> None:
    """Have this part's keys sealed under this passphrase, instead of another or none. Raises StorageError, Locked.

    Interrupted, it is finished by doing it again: a key is plain or sealed, and the lock is there before the first is
    sealed. The lock's key stays until the lock is removed.
    """
    key = unlock(part) if has_lock(part) else secrets.token_bytes(_KEY)
    _close_lock(part, key, passphrase)
    _open[part.resolve()] = key
    for file in _files(part):
        data = read_file(file)
        if not data.startswith(SEALED):
            write_file(file, _seal(key, file.name, data))
    for left in (part / FOLDER).glob(f"*{FRESH}"):
        left.unlink()


def unseal_all(part: Path) -> None:
    """Have this part's keys plain. Interrupted, it is finished by doing it again. Raises StorageError, Locked."""
    if not has_lock(part):
        return
    key = unlock(part)
    for file in _files(part):
        data = read_file(file)
        if data.startswith(SEALED):
            write_file(file, _unseal(key, file, data))
    (part / FOLDER / LOCK).unlink()
    _open.pop(part.resolve(), None)


def unlock_all(parts: Iterable[Path]) -> None:
    """Unlock these parts, so that one question is enough for all; then the passphrase is wiped.

    Raises Locked, StorageError.
    """
    for part in parts:
        if has_lock(part):
            unlock(part)
    passphrases.forget()
