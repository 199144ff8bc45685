"""Where the store's key is kept, and that nobody else gets at it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend

from agent import sealing
from agent.store import create_store, open_store
from protocol.errors import StorageError
from tests.support import Source

if TYPE_CHECKING:
    from pathlib import Path

KEY = Source("key")(32)


class MemoryKeyring(KeyringBackend):
    """A keyring that forgets everything when the test ends."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if self.kept.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("not there")


class WeakKeyring(MemoryKeyring):
    """One that a person can choose, but that is not chosen without asking."""

    priority = 0.5  # type: ignore[assignment]


@pytest.fixture
def memory() -> MemoryKeyring:
    """A keyring selected for this test; the fixture of all tests puts the former one back."""
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    return backend


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


# --- in a file ---


@pytest.mark.parametrize("place", ["auto", "file"])
def test_without_a_keyring_the_key_is_in_a_file(data: Path, place: sealing.KeyPlace) -> None:
    assert sealing.find_key(data, place) is None
    assert sealing.make_key(data, place, Source("key")) == KEY
    assert sealing.find_key(data, place) == KEY
    assert (data / sealing.KEY_FILE).read_bytes() == KEY


def test_only_its_owner_can_read_the_file(data: Path) -> None:
    before = os.umask(0)
    try:
        sealing.make_key(data, "file", Source("key"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((data / sealing.KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_can_read_is_refused(data: Path, mode: int) -> None:
    sealing.make_key(data, "file", Source("key"))
    (data / sealing.KEY_FILE).chmod(mode)
    with pytest.raises(StorageError, match=r"others can read .*chmod 600"):
        sealing.find_key(data, "file")


@pytest.mark.parametrize("content", [b"", KEY[:31], KEY + b"\n", KEY.hex().encode()])
def test_a_damaged_file_is_told(data: Path, content: bytes) -> None:
    sealing.make_key(data, "file", Source("key"))
    (data / sealing.KEY_FILE).write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        sealing.find_key(data, "auto")


def test_a_key_is_never_overwritten_nor_removed_by_another_maker(data: Path) -> None:
    sealing.make_key(data, "file", Source("key"))
    with pytest.raises(StorageError):
        sealing.make_key(data, "file", Source("other"))
    assert sealing.find_key(data, "file") == KEY


def test_a_key_that_cannot_be_written_leaves_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        sealing.make_key(data, "file", Source("key"))
    assert list(data.iterdir()) == []


# --- in a keyring ---


@pytest.mark.parametrize("place", ["auto", "keyring"])
def test_with_a_keyring_the_key_is_there_and_nowhere_else(
    data: Path, memory: MemoryKeyring, place: sealing.KeyPlace
) -> None:
    assert sealing.find_key(data, place) is None
    assert sealing.make_key(data, place, Source("key")) == KEY
    assert sealing.find_key(data, place) == KEY
    assert list(memory.kept.values()) == [KEY.hex()]
    assert list(data.iterdir()) == []


def test_each_folder_has_its_own_key(tmp_path: Path, memory: MemoryKeyring) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    sealing.make_key(one, "keyring", Source("one"))
    sealing.make_key(other, "keyring", Source("other"))
    assert sealing.find_key(one, "keyring") == Source("one")(32)
    assert sealing.find_key(other, "keyring") == Source("other")(32)


def test_a_file_is_used_before_a_keyring_that_came_later(data: Path, memory: MemoryKeyring) -> None:
    sealing.make_key(data, "file", Source("key"))
    assert sealing.find_key(data, "auto") == KEY
    assert sealing.find_key(data, "keyring") is None


def test_a_locked_keyring_is_told(data: Path, memory: MemoryKeyring) -> None:
    memory.locked = True
    with pytest.raises(StorageError, match="unlock"):
        sealing.find_key(data, "auto")
    with pytest.raises(StorageError, match='unlock it, or set key = "file"'):
        sealing.make_key(data, "keyring", Source("key"))


@pytest.mark.parametrize("text", ["not hexadecimal", "abcd", KEY.hex() + "00"], ids=["text", "short", "long"])
def test_a_damaged_keyring_entry_is_told(data: Path, memory: MemoryKeyring, text: str) -> None:
    sealing.make_key(data, "keyring", Source("key"))
    (entry,) = memory.kept
    memory.kept[entry] = text
    with pytest.raises(StorageError, match="damaged"):
        sealing.find_key(data, "keyring")


def test_no_keyring_at_all_is_told(data: Path) -> None:
    with pytest.raises(StorageError, match="keyring"):
        sealing.find_key(data, "keyring")
    with pytest.raises(StorageError, match='key = "file"'):
        sealing.make_key(data, "keyring", Source("key"))


def test_a_store_with_its_key_in_a_keyring(folder: Path, memory: MemoryKeyring) -> None:
    store = create_store(folder, "keyring", Source("key"))
    store.put("name", "value")
    store.close()
    assert not (folder / sealing.KEY_FILE).exists()
    again = open_store(folder, "keyring")
    assert again.get("name", str) == "value"
    again.close()
    memory.kept.clear()
    with pytest.raises(StorageError, match="is gone"):
        open_store(folder, "keyring")


# --- forgetting ---


def test_forgetting_a_key_in_a_file(data: Path) -> None:
    sealing.make_key(data, "file", Source("key"))
    sealing.forget_key(data)
    sealing.forget_key(data)
    assert sealing.find_key(data, "auto") is None
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("kind", [MemoryKeyring, WeakKeyring])
def test_forgetting_a_key_in_a_keyring(data: Path, kind: type[MemoryKeyring]) -> None:
    backend = kind()
    keyring.set_keyring(backend)
    sealing.make_key(data, "keyring", Source("key"))
    sealing.forget_key(data)
    assert backend.kept == {}
    sealing.forget_key(data)


def test_a_weak_keyring_is_not_used_unasked(data: Path) -> None:
    backend = WeakKeyring()
    keyring.set_keyring(backend)
    sealing.make_key(data, "auto", Source("key"))
    assert backend.kept == {}
    assert sealing.find_key(data, "auto") == KEY
