"""Where a passphrase comes from: never the command line or the environment, which other processes can see.

In this order: what was given to this process before; the systemd credential `spot-backend-passphrase`; the file that
SPOT_BACKEND_PASSPHRASE_FILE names (/dev/fd/3 for a file descriptor); a question on the terminal. One from a file is
nowhere but in the buffer that `forget` wipes; a typed one has gone through Python's own texts, which nobody can wipe.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from backend_stub.keyring import memory
from protocol.errors import Misuse, SpotError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

CREDENTIAL = "spot-backend-passphrase"
VARIABLE = "SPOT_BACKEND_PASSPHRASE_FILE"
SHORTEST = 8  # characters
MOST = 4096  # bytes of a passphrase
TRIES = 3

T = TypeVar("T")

Passphrase: TypeAlias = bytes | bytearray

_given: list[bytearray] = []


def forget() -> None:
    """Wipe what was given before."""
    for known in _given:
        memory.wipe(known)
    _given.clear()


def first_that_opens(opens: Callable[[Passphrase], T | None], what: str, error: type[SpotError]) -> T:
    """What `opens` makes of the first passphrase that it does not refuse with None. Raises `error` where there is none.

    That passphrase is remembered, as it may be that of others too.
    """
    for known in _given:
        if (found := opens(known)) is not None:
            return found
    for passphrase in _candidates(what, error):
        if (found := opens(passphrase)) is not None:
            _given.append(passphrase)
            return found
    raise error(f"this is not the passphrase of {what}; without it, restore a backup, or make a new backend")


def _candidates(what: str, error: type[SpotError]) -> Iterator[bytearray]:
    source = _source()
    if source is not None:
        yield from_file(source)
    elif not sys.stdin.isatty():
        raise error(
            f"{what} is sealed; give the passphrase as the systemd credential {CREDENTIAL}, in a file that {VARIABLE} "
            "names, or at a terminal"
        )
    else:
        for _ in range(TRIES):
            yield _typed(f"Passphrase of {what}: ")


def _source() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / CREDENTIAL).exists():
        return Path(folder) / CREDENTIAL
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def from_file(file: Path) -> bytearray:
    """The passphrase in a file, without the end of its line. Raises Misuse, StorageError."""
    try:
        # systemd lets the service's user at a credential by an access list, which looks like a group's right.
        if file.parent != Path(os.environ.get("CREDENTIALS_DIRECTORY") or "/nowhere"):
            check_private(file)
        passphrase = bytearray(MOST + 1)
        with file.open("rb", buffering=0) as opened:
            size = _fill(passphrase, opened)
    except OSError as error:
        raise Misuse(f"the passphrase cannot be read from {file} ({error.strerror}); name another file") from None
    while size and passphrase[size - 1] in b"\r\n":
        size -= 1
    del passphrase[size:]
    return _checked(passphrase, str(file))


def _fill(buffer: bytearray, file: FileIO) -> int:
    """Read as much as there is room for; how much that was. From a pipe it comes in pieces."""
    size = 0
    with memoryview(buffer) as view:
        while read := file.readinto(view[size:]):
            size += read
    return size


def known(file: Path | None, what: str) -> bytearray:
    """A passphrase that was chosen before: from this file, or typed. Raises Misuse."""
    if file is not None:
        return from_file(file)
    if not sys.stdin.isatty():
        raise Misuse(f"there is no terminal to type the passphrase of {what} at; give --passphrase-file FILE")
    return _typed(f"Passphrase of {what}: ")


def new(file: Path | None, what: str) -> bytearray:
    """A new passphrase: from this file, or typed twice. Raises Misuse."""
    if file is not None:
        return from_file(file)
    if not sys.stdin.isatty():
        raise Misuse("there is no terminal to type a passphrase at; give it in a file: --passphrase-file FILE")
    first = _checked(_typed(f"New passphrase of {what}: "), "what you typed")
    if _typed("Once more: ") != first:
        raise Misuse("these are two different passphrases; try again")
    return first


def _typed(question: str) -> bytearray:
    try:
        return bytearray(getpass.getpass(question).encode())
    except EOFError:
        raise Misuse("no passphrase was typed; try again") from None


def _checked(passphrase: bytearray, where: str) -> bytearray:
    characters = sum(byte & 0xC0 != 0x80 for byte in passphrase)  # of UTF-8, without a copy as a text
    if not SHORTEST <= characters <= MOST:
        raise Misuse(f"a passphrase has {SHORTEST} characters or more; {where} has not")
    return passphrase


def check_private(file: Path) -> None:
    """Raises StorageError where others than the owner can read a file, with what to type; OSError."""
    if os.name != "posix":
        return
    status = file.stat()
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise StorageError(f"{file} can be read by others than its owner; type: chmod 600 {file}")
