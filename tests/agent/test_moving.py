"""Moving to another device: what goes along, what stays, what the old device says, and all that can be wrong."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent import account, database, moving, passphrase, sealing, service
from agent import store as storage
from agent.following import SYNC, SyncStatus
from agent.kept import VERSION, State, StoredReport
from agent.store import DATABASE, open_store
from protocol import messages
from protocol.errors import Busy, Malformed, Misuse, Moved, NotJoined, SpotError, StorageError
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.joined import met
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.store import Store

WORDS = "correct horse battery staple"


def furnish(store: Store) -> None:
    """Put something of everything into a store."""
    joined.join(store)
    peers = [met(f"peer {number}", first=NOON + number) for number in range(len(State))]
    store.keep_encounters(peers)
    for one, state in zip(store.encounters(), State, strict=True):
        store.settle(one, state, due=NOON + 7, problem="why", record=b"record", refusals=1)
    store.keep_publication(messages.Head(number=3, hash=b"h" * 32), [(2, 4)])
    store.keep_report(StoredReport(b"d" * 32, "CODE", b"report", bytes(32), b"reply key", (1, 2), NOON))
    store.put(service.PAUSED, True)


def content(store: Store) -> dict[str, list[object]]:
    """Everything in it, but what is one device's own."""
    own = (service.SERVICE, service.STOP, SYNC, account.MOVED)
    names = [row[0] for row in store._rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    found = {name: store._rows(f"SELECT * FROM {name}") for name in names}
    found["state"] = [row for row in found["state"] if row[0] not in own]
    return found


class Move:
    """A store that was exported, with what was in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.old = place / "old"
        self.file = place / "moved.spot"
        store = joined.make_store(self.old)
        furnish(store)
        store.put(SYNC, SyncStatus(tried=1.0))
        self.content = content(store)
        moving.export(store, self.file, WORDS, NOON, os.urandom)
        store.close()

    def take_in(self, folder: Path, phrase: str = WORDS) -> Store:
        return moving.take_in(self.file, folder, "file", phrase, os.urandom)


@pytest.fixture(scope="module")
def move(tmp_path_factory: pytest.TempPathFactory) -> Move:
    """One move for all tests that change nothing of it; sealing takes a second."""
    return Move(tmp_path_factory.mktemp("move"))


@pytest.fixture
def opened(folder: Path) -> Iterator[Store]:
    """The old store of a move under way."""
    store = joined.make_store(folder)
    furnish(store)
    yield store
    store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about the seal."""
    monkeypatch.setattr(passphrase, "seal", lambda data, phrase, random: data)


# --- what goes along ---


def test_everything_goes_along_and_is_sealed_anew(move: Move, folder: Path) -> None:
    store = move.take_in(folder)
    assert content(store) == move.content
    assert store.get(account.MOVED, float) is None
    assert store.get(SYNC, SyncStatus) is None, "it looks for news at once"
    account.open_account(joined.world().curve, store)
    store.check()
    store.close()
    keys = [(place / sealing.KEY_FILE).read_bytes() for place in (move.old, folder)]
    assert keys[0] != keys[1]
    assert {path.name for path in folder.iterdir()} == {DATABASE, sealing.KEY_FILE, service.LOCK}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_file_is_its_owner_s_tells_nothing_and_grows_in_steps(move: Move) -> None:
    assert stat.S_IMODE(move.file.stat().st_mode) == 0o600
    data = move.file.read_bytes()
    assert data.startswith(passphrase.HEAD)
    assert not any(
        secret in data for secret in (met("peer 0").secret, b"reply key", b"record", b"SQLite", b"spot-agent")
    )
    inside = msgspec.msgpack.decode(passphrase.unseal(data, WORDS, "it"), type=moving.Backup)
    assert len(inside.database) == database.STEP * 4096
    assert inside.key not in inside.database
    assert inside.key != (move.old / sealing.KEY_FILE).read_bytes()
    assert WORDS not in repr(inside)
    assert inside.key.hex() not in repr(inside)
    assert sorted(path.name for path in move.place.iterdir()) == ["moved.spot", "old"], "nothing else is left"
    assert sorted(path.name for path in move.old.iterdir()) == sorted(
        [DATABASE, sealing.KEY_FILE, service.LOCK, database.MAKING_LOCK]
    )


def test_what_looks_the_same_is_the_same_passphrase() -> None:
    sealed = passphrase.seal(b"data", "Zu\u0308rich Zu\u0308rich", os.urandom)
    assert passphrase.unseal(sealed, "Z\u00fcrich Z\u00fcrich", "it") == b"data"


# --- the old device ---


def test_the_old_device_is_retired(move: Move) -> None:
    store = open_store(move.old, "file")
    with pytest.raises(Moved, match=r"moved to another device on 2024-10-04.*spot leave.*spot export --undo"):
        account.check_not_moved(store)
    assert content(store) == move.content
    store.close()


def test_its_owner_can_take_it_back(opened: Store, quick: None, tmp_path: Path) -> None:
    moving.export(opened, tmp_path / "file", WORDS, NOON, os.urandom)
    moving.undo(opened)
    account.check_not_moved(opened)
    with pytest.raises(Misuse, match="nothing to undo"):
        moving.undo(opened)


def test_a_retired_device_can_export_again(opened: Store, quick: None, tmp_path: Path) -> None:
    moving.export(opened, tmp_path / "lost", WORDS, NOON, os.urandom)
    moving.export(opened, tmp_path / "again", WORDS, NOON + 5, os.urandom)
    assert opened.get(account.MOVED, float) == NOON
    one, other = (
        msgspec.msgpack.decode((tmp_path / name).read_bytes(), type=moving.Backup) for name in ("lost", "again")
    )
    assert one.key != other.key


def test_nothing_is_overwritten(opened: Store, quick: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(Misuse, match="not overwritten"):
        moving.export(opened, tmp_path / "file", WORDS, NOON, os.urandom)
    assert (tmp_path / "file").read_bytes() == b"precious"
    account.check_not_moved(opened)


def in_a_folder_that_is_not_there(tmp_path: Path, patch: pytest.MonkeyPatch) -> Path:
    return tmp_path / "nowhere" / "file"


def beside_one_that_came_meanwhile(tmp_path: Path, patch: pytest.MonkeyPatch) -> Path:
    honest = os.fsync
    patch.setattr(os, "fsync", lambda handle: ((tmp_path / "file").write_bytes(b"precious"), honest(handle)))
    return tmp_path / "file"


def on_a_disk_that_is_full(tmp_path: Path, patch: pytest.MonkeyPatch) -> Path:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(os, "fsync", full)
    return tmp_path / "file"


@pytest.mark.parametrize(
    "where", [in_a_folder_that_is_not_there, beside_one_that_came_meanwhile, on_a_disk_that_is_full]
)
def test_a_file_that_cannot_be_written_retires_nothing(
    opened: Store, quick: None, tmp_path: Path, where: Callable[..., Path]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        file = where(tmp_path, patch)
        with pytest.raises(StorageError, match="nothing was changed"):
            moving.export(opened, file, WORDS, NOON, os.urandom)
    account.check_not_moved(opened)
    assert not file.exists() or file.read_bytes() == b"precious"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert not list(opened.folder.glob("moving-*"))


def test_a_disk_without_hard_links_takes_it_too(
    opened: Store, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(one: Path, other: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    moving.export(opened, tmp_path / "file", WORDS, NOON, os.urandom)
    assert (tmp_path / "file").stat().st_size > 4096
    assert not (tmp_path / ".file.part").exists()


def test_a_running_agent_is_not_moved(opened: Store, tmp_path: Path) -> None:
    with service.running_lock(opened.folder), pytest.raises(Busy, match="stop it first"):
        moving.export(opened, tmp_path / "file", WORDS, NOON, os.urandom)
    assert not (tmp_path / "file").exists()


def test_who_has_not_joined_has_nothing_to_move(folder: Path, tmp_path: Path) -> None:
    store = joined.make_store(folder)
    with pytest.raises(NotJoined):
        moving.export(store, tmp_path / "file", WORDS, NOON, os.urandom)
    store.close()


def test_a_short_passphrase_is_refused(opened: Store, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="12 characters"):
        moving.export(opened, tmp_path / "file", "elevenchars", NOON, os.urandom)
    account.check_not_moved(opened)


# --- what can be wrong with the file, or with the new device ---


def flipped(at: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        place = int(len(data) * at)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return flip


@pytest.mark.parametrize(
    ("damage", "phrase", "said"),
    [
        (lambda data: data, "another passphrase", "not the passphrase"),
        (flipped(0.000007), WORDS, "not the passphrase"),
        (flipped(0.5), WORDS, "altered or is cut"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), WORDS, "altered or is cut"),
        (lambda data: data[: len(data) // 2], WORDS, "altered or is cut"),
        (lambda data: data[:-1], WORDS, "altered or is cut"),
        (lambda data: data + b"x", WORDS, "altered or is cut"),
        (lambda data: data[:50], WORDS, "altered or is cut"),
        (lambda data: b"", WORDS, "is it the right file"),
        (lambda data: b"SQLite format 3\0" + bytes(4096), WORDS, "is it the right file"),
    ],
    ids=[
        "passphrase",
        "salt",
        "middle",
        "last byte",
        "half",
        "one byte less",
        "one more",
        "head only",
        "empty",
        "another",
    ],
)
def test_a_wrong_file_or_passphrase_is_told_and_leaves_nothing(
    move: Move, tmp_path: Path, folder: Path, damage: Callable[[bytes], bytes], phrase: str, said: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(damage(move.file.read_bytes()))
    with pytest.raises(Malformed, match=said) as error:
        moving.take_in(file, folder, "file", phrase, os.urandom)
    assert phrase not in error.value.text
    assert not folder.exists()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """For files whose seal is right, whatever is in them."""
    monkeypatch.setattr(passphrase, "unseal", lambda data, phrase, name: data)


@pytest.mark.parametrize(
    ("version", "said"), [(VERSION + 1, "newer spot; update"), (VERSION - 1, "older spot; update")]
)
def test_another_version_is_told(plain: None, tmp_path: Path, folder: Path, version: int, said: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(msgspec.msgpack.encode(moving.Backup(version=version, key=bytes(32), database=b"")))
    with pytest.raises(Misuse, match=said):
        moving.take_in(file, folder, "file", WORDS, os.urandom)
    assert not folder.exists()


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b"a letter",
        msgspec.msgpack.encode({"format": "other"}),
        b"\x81\xa2\xff\xff\1",
        b"\x81\xa1x" + b"\x91" * 4000,
    ],
    ids=["empty", "text", "other", "no text", "deep"],
)
def test_a_sealed_file_of_somebody_else_s_is_told(plain: None, tmp_path: Path, folder: Path, inside: bytes) -> None:
    (tmp_path / "file").write_bytes(inside)
    with pytest.raises(Malformed, match="not made by spot export"):
        moving.take_in(tmp_path / "file", folder, "file", WORDS, os.urandom)


def test_a_damaged_copy_in_a_whole_file_is_told_and_the_next_try_works(
    plain: None, quick: None, opened: Store, tmp_path: Path
) -> None:
    file, new = tmp_path / "file", tmp_path / "new"
    moving.export(opened, file, WORDS, NOON, os.urandom)
    whole = file.read_bytes()
    file.write_bytes(flipped(0.002)(whole))
    with pytest.raises(StorageError, match="damaged"):
        moving.take_in(file, new, "file", WORDS, os.urandom)
    assert not storage.is_made(new)
    file.write_bytes(whole)
    moving.take_in(file, new, "file", WORDS, os.urandom).close()


def test_an_agent_that_is_there_stays(move: Move, folder: Path) -> None:
    store = joined.make_store(folder)
    store.put("name", "kept")
    with pytest.raises(Misuse, match=r"not overwritten.*--data-dir.*spot leave"):
        move.take_in(folder)
    assert store.get("name", str) == "kept"
    store.close()


def test_a_join_that_failed_is_no_agent(plain: None, quick: None, opened: Store, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / DATABASE).touch()
    key = sealing.make_key(new, "file", Source("left"))
    moving.export(opened, tmp_path / "file", WORDS, NOON, os.urandom)
    store = moving.take_in(tmp_path / "file", new, "file", WORDS, os.urandom)
    assert content(store) == content(opened)
    assert (new / sealing.KEY_FILE).read_bytes() == key
    store.close()


def test_a_file_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpotError, match="cannot be read"):
        moving.take_in(tmp_path / "nothing", folder, "file", WORDS, os.urandom)
