"""What a person is told of a key or a store that is lost, wrong, damaged or cut, or a full disk; nothing is reset."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent import account, sealing
from agent.store import DATABASE, create_store, open_store
from protocol.errors import StorageError
from tests.agent.joined import met
from tests.agent.processes import ROOT
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.store import Store

PAGE = 4096


def spot(folder: Path, *arguments: str, most: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command, which may write no file longer than `most` bytes."""
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2);"
    code += "sys.argv[1:] = sys.argv[2:]; from agent.__main__ import main; main()"
    limit = str(resource.RLIM_INFINITY if most is None else most)
    return subprocess.run(
        [sys.executable, "-c", code, limit, "--data-dir", str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | {"SPOT_KEY": "file", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def without_key(folder: Path) -> None:
    (folder / sealing.KEY_FILE).unlink()


def with_another_key(folder: Path) -> None:
    (folder / sealing.KEY_FILE).write_bytes(bytes(32))


def with_half_a_key(folder: Path) -> None:
    os.truncate(folder / sealing.KEY_FILE, 16)


def altered(at: int) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        with (folder / DATABASE).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))

    return alter


def cut(by: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / DATABASE, (folder / DATABASE).stat().st_size - by)


def contents(folder: Path) -> dict[str, bytes]:
    """The files that matter."""
    return {name: (folder / name).read_bytes() for name in (DATABASE, sealing.KEY_FILE) if (folder / name).exists()}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_key, "is gone; put it back"),
        (with_another_key, "cannot be opened with its key, or is damaged"),
        (with_half_a_key, "is damaged; put it back from a backup"),
        (altered(0), "cannot be opened with its key, or is damaged"),
        (altered(PAGE - 1), "cannot be opened with its key, or is damaged"),
        (altered(PAGE + 1), "cannot be opened with its key, or is damaged"),
        (cut(PAGE), "cannot be opened with its key, or is damaged"),
        (cut(1000 * PAGE), "cannot be opened with its key, or is damaged"),
    ],
    ids=[
        "no key",
        "another key",
        "half a key",
        "first byte",
        "first page",
        "second page",
        "page less",
        "most of it less",
    ],
)
def test_it_is_told_nothing_is_reset_and_the_intact_copy_works(
    store: Store, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    store.keep_encounters([met("kept")])
    store.close()
    folder, intact = store.folder, tmp_path / "intact"
    shutil.copytree(folder, intact)
    damage(folder)
    before = contents(folder)
    done = spot(folder, "contacts")
    assert (done.returncode, done.stdout) == (32, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(StorageError):
        create_store(folder, "file", Source("another")).get(account.MEMBERSHIP, account.Membership)  # as joining does
    assert contents(folder) == before
    for name, content in contents(intact).items():
        (folder / name).write_bytes(content)
    (folder / sealing.KEY_FILE).chmod(0o600)
    back = open_store(folder, "file")
    back.check()
    assert [one.secret for one in back.encounters()] == [met("kept").secret]
    back.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("most", [0, 100, 3 * PAGE])
def test_a_disk_that_takes_nothing_is_told_and_costs_nothing(store: Store, most: int) -> None:
    store.keep_encounters([met("kept")])
    store.close()
    before = contents(store.folder)
    done = spot(store.folder, "pause", most=most)
    assert done.returncode == 32
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert contents(store.folder) == before
    assert spot(store.folder, "pause").returncode == 0
    back = open_store(store.folder, "file")
    assert [one.secret for one in back.encounters()] == [met("kept").secret]
    assert back.get("paused", bool)
    back.close()
