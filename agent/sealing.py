"""The key that seals the store: in the system's keyring where there is one, else in a file only its owner can read."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Literal

import keyring
import keyring.errors
from keyring.backends import fail

from protocol.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.randomness import Random

KEY_FILE = "store.key"
KEY_SIZE = 32
_SERVICE = "spot-agent"

KeyPlace = Literal["auto", "keyring", "file"]


def has_keyring() -> bool:
    """Whether the system has a keyring that can be used now."""
    try:
        return not isinstance(keyring.get_keyring(), fail.Keyring) and keyring.get_keyring().priority >= 1
    except (keyring.errors.KeyringError, RuntimeError):
        return False


def find_key(folder: Path, place: KeyPlace) -> bytes | None:
    """The key of the store in this folder, 32 bytes; None where none was made. Raises StorageError."""
    path = folder / KEY_FILE
    if place != "keyring" and path.exists():
        return _read_file(path)
    if place != "file" and (place == "keyring" or has_keyring()):
        return _read_keyring(folder)
    return None


def make_key(folder: Path, place: KeyPlace, random: Random) -> bytes:
    """Make and keep a fresh key. Raises StorageError."""
    key = random(KEY_SIZE)
    if place == "keyring" or (place == "auto" and has_keyring()):
        try:
            keyring.set_password(_SERVICE, _account(folder), key.hex())
        except keyring.errors.KeyringError:
            raise StorageError('the keyring does not take the store\'s key; unlock it, or set key = "file"') from None
        return key
    path = folder / KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"the store's key cannot be written ({error.strerror}); free some disk, try again") from None
    return key


def forget_key(folder: Path) -> None:
    """Remove the key of this folder from wherever it is kept."""
    (folder / KEY_FILE).unlink(missing_ok=True)
    # Whatever has_keyring says: a weak one is used where the settings name it.
    with contextlib.suppress(keyring.errors.KeyringError):  # it was not there
        keyring.delete_password(_SERVICE, _account(folder))


def _account(folder: Path) -> str:
    return str(folder.resolve())


def _read_file(path: Path) -> bytes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and os.name == "posix":
            raise StorageError(f"others can read {path}; run: chmod 600 {path}")
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}); mend its permissions") from None
    return _checked(key, str(path))


def _read_keyring(folder: Path) -> bytes | None:
    try:
        text = keyring.get_password(_SERVICE, _account(folder))
    except keyring.errors.KeyringError:
        raise StorageError("the keyring is locked or does not answer; unlock it and try again") from None
    if not text:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    return _checked(key, "the key in the keyring")


def _checked(key: bytes, name: str) -> bytes:
    if len(key) != KEY_SIZE:
        raise StorageError(f"{name} is damaged; put it back from a backup, or start anew with: spot leave")
    return key
