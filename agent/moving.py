"""Moving to another device: all that is kept, in one file sealed under a passphrase; the old device is retired.

In the file are a copy of the store and a key made for that copy. The keys of epochs are in no store, so they are in no
copy. Its size tells no more than a store's, which grows in steps.

No device can know whether such a file was taken in elsewhere. So the one that wrote it is retired at once, before the
file has its name, and only its owner's word brings it back.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from agent import account, database, passphrase, sealing
from agent import store as storage
from agent.following import SYNC
from agent.kept import STEPS, VERSION
from agent.service import SERVICE, STOP, running_lock
from agent.store import DATABASE, Store, is_made, open_store
from protocol.errors import Malformed, Misuse, NotJoined, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.randomness import Random

WORK = "moving-"  # how a folder is called in which a copy is made; nothing in it is in clear


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed. version: of the store; key: 32 bytes; database: the file under that key."""

    format: Literal["spot-agent"] = "spot-agent"
    version: int
    key: bytes
    database: bytes

    def __repr__(self) -> str:
        return "<Backup>"


def export(store: Store, file: Path, phrase: str, now: float, random: Random) -> None:
    """Seal everything into a new file and retire this device; again for one that is retired, whose file was lost.

    Raises NotJoined, Busy, Misuse where the file is there already, StorageError.
    """
    if file.exists():
        raise Misuse(f"{file} is there already and is not overwritten; choose another name")
    with running_lock(store.folder):
        member = store.get(account.MEMBERSHIP, account.Membership)
        if member is None or member.issued is None:
            raise NotJoined("joining was not finished, so there is nothing to move; run: spot join URL --invite CODE")
        sealed = passphrase.seal(msgspec.msgpack.encode(_copy_of(store, random)), phrase, random)
        before = store.get(account.MOVED, float)
        store.put(account.MOVED, before or now)
        try:
            _write(file, sealed)
        except OSError as error:
            store.put(account.MOVED, before)
            raise StorageError(f"{file} cannot be written ({error.strerror}); nothing was changed") from None


def undo(store: Store) -> None:
    """Go on with a device that was retired. Raises Misuse where it was not, Busy."""
    with running_lock(store.folder):
        if store.get(account.MOVED, float) is None:
            raise Misuse("this agent was not moved; there is nothing to undo")
        store.put(account.MOVED, None)


def take_in(file: Path, folder: Path, place: sealing.KeyPlace, phrase: str, random: Random) -> Store:
    """The store of a fresh folder with everything of such a file, under a key of its own.

    Raises Malformed for another passphrase or file, Misuse where the folder has an agent, StorageError.
    """
    check_fresh(folder)
    backup = _read(file, phrase)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with running_lock(folder), tempfile.TemporaryDirectory(prefix=WORK, dir=folder) as name:
            check_fresh(folder)
            moved = _unpacked(backup, Path(name), lambda: storage.key_for(folder, place, random))
            (folder / DATABASE).unlink(missing_ok=True)  # an empty one, left by a join that failed
            _name(moved, folder / DATABASE)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror}); choose another with --data-dir") from None
    return open_store(folder, place)


def check_fresh(folder: Path) -> None:
    """Raises Misuse where there is an agent in the folder."""
    if is_made(folder):
        raise Misuse(
            f"there is an agent in {folder} already, which is not overwritten; choose another folder with --data-dir, "
            "or delete it for good: spot leave"
        )


# --- what is sealed ---


def _copy_of(store: Store, random: Random) -> Backup:
    """A copy under a key of its own, without what concerns this device only."""
    key = random(sealing.KEY_SIZE)
    with tempfile.TemporaryDirectory(prefix=WORK, dir=store.folder) as name:
        path = Path(name) / DATABASE
        store.copy(path, key)
        with contextlib.closing(Store(path.parent, database.connect(path, key, STEPS))) as copied:
            for left_behind in (account.MOVED, SERVICE, STOP, SYNC):
                copied.put(left_behind, None)
        return Backup(version=VERSION, key=key, database=path.read_bytes())


def _unpacked(backup: Backup, folder: Path, find_key: Callable[[], bytes]) -> Path:
    """A file with the copy, checked, under the key of its new place."""
    given, moved = folder / "given.db", folder / DATABASE
    given.touch(mode=0o600)
    given.write_bytes(backup.database)
    with contextlib.closing(Store(folder, database.connect(given, backup.key, STEPS))) as store:
        store.check()
        store.copy(moved, find_key())
    return moved


def _read(file: Path, phrase: str) -> Backup:
    try:
        opened = passphrase.unseal(file.read_bytes(), phrase, str(file))
    except OSError as error:
        raise Misuse(f"{file} cannot be read ({error.strerror}); mend its permissions") from None
    try:
        backup = msgspec.msgpack.decode(opened, type=Backup)
    except (ValueError, RecursionError):
        raise Malformed(f"{file} is sealed by this passphrase, but was not made by spot export") from None
    if backup.version > VERSION:
        raise Misuse(f"{file} was made by a newer spot; update the one on this device, then import it again")
    if backup.version < VERSION:
        raise Misuse(f"{file} was made by an older spot; update the one on the old device, then export again")
    return backup


# --- the file ---


def _write(file: Path, data: bytes) -> None:
    """Make a file that only its owner can read, whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        _name(part, file)
    finally:
        part.unlink(missing_ok=True)


def _name(part: Path, file: Path) -> None:
    """Give a file its name, which nothing may have yet. Raises FileExistsError."""
    try:
        os.link(part, file)
    except FileExistsError:
        raise
    except OSError:  # no hard links, as on a memory stick
        if file.exists():
            raise FileExistsError(17, "it is there already") from None
        part.rename(file)
    if os.name == "posix":
        handle = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
