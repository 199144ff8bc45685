"""Attack 16: the device is seized. Its folder is copied without the key, its memory is read, its dumps are looked for.

Without the key, the folder tells the time of the last writing and, of the store's size, how many steps of 4 MiB it ever
took: most people never leave the first. A log (-wal) beside it, taken while the agent runs, tells by its page numbers
how much was written since it was last folded in, at most half a minute ago. Who has the key, which is a file on devices
without a keyring, has the contact list: but no EBID that was broadcast, and no key of an epoch that is over.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from agent import account, database, sealing
from agent.samples import encode_samples
from agent.store import DATABASE
from protocol import encounter, messages
from tests.agent import joined
from tests.agent.joined import met
from tests.agent.processes import ROOT, child
from tests.attacks.remembering import seed_of
from tests.end_to_end.people import world
from tests.end_to_end.test_nothing_leaks import written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.epochs import Epochs, OwnEpoch
    from agent.store import Store
    from tests.end_to_end.people import Person, World

PAGE = 4096
FRAME = 24  # bytes before each page in a write-ahead log
EPOCHS = 16

Known = dict[str, list[bytes]]


# --- the folder without its key ---


def seized(folder: Path, into: Path) -> bytes:
    """All files of the folder but the key, names and contents, one after the other."""
    shutil.copytree(folder, into)
    (into / sealing.KEY_FILE).unlink()
    return b"".join(path.name.encode() + path.read_bytes() for path in sorted(into.iterdir()))


def known_of(person: Person, ebids: list[bytes]) -> Known:
    """The values of a person's agent, in all ways in which each could have been written down."""
    member = person.store.get(account.MEMBERSHIP, account.Membership)
    assert member is not None
    assert member.issued is not None
    found = person.store.encounters()
    records = [messages.decode(messages.ContactRecord, one.record) for one in found if one.record]
    assert found
    assert records
    tokens = [encounter.token_of(one.secret, role) for one in found for role in (0, 1)]
    texts = [person.sync_.account.parameters.authority, member.url, member.invitation, "signed", "CREATE TABLE"]
    binary = {
        "EBID": ebids,
        "E": [one.secret for one in found],
        "CCM": [encounter.ccm_of(one.secret) for one in found],
        "token": tokens,
        "nullifier": [one.nullifier for one in records],
        "credential": [member.secret, member.issued.s1, member.issued.s2],
        "RSSI": [encode_samples(one.first, one.samples)[:12] for one in found],
    }
    known = {name: [way for value in values for way in written(value)] for name, values in binary.items()}
    known["text"] = [text.encode() for text in texts]
    # A database keeps whole numbers of seconds in four bytes, one after the other.
    known["time"] = [struct.pack(">II", int(one.first), int(one.last)) for one in found]
    known["time"] += [way for one in found for at in (one.first, one.last) for way in times_written(at)]
    return known


def times_written(at: float) -> Iterator[bytes]:
    """The ways a time could have been written down; none is so short that chance writes it, too."""
    for order in "<>":
        yield struct.pack(f"{order}d", at)
        yield struct.pack(f"{order}q", int(at))
        yield struct.pack(f"{order}q", int(at * 1000))
    yield msgspec.msgpack.encode(at)
    yield msgspec.msgpack.encode(int(at)) + b"\xa0"
    yield str(int(at)).encode()
    yield time.strftime("%Y-%m-%d", time.gmtime(at)).encode()


def read(data: bytes, known: Known) -> set[str]:
    """The kinds of values that can be read in it."""
    return {name for name, ways in known.items() if any(way in data for way in ways)}


async def lived(there: World, tmp_path: Path, known: Known) -> tuple[set[str], set[str]]:
    """Two people meet, one declares; what can be read of the other's folder while it is open, and when it is closed."""
    ebids: list[bytes] = []
    a, b = there.people.values()
    for person in (a, b):
        note_ebids(person.epochs, ebids)
    there.meet(a, b)
    for person in (a, b, a, b):
        await person.sync()
        there.clock.jump(3700)
    await a.declare(await there.code())
    await there.publish()
    await b.sync()
    assert b.warned
    known |= known_of(b, ebids)
    while_open = read(seized(b.store.folder, tmp_path / "open"), known)
    b.store.close()
    return while_open, read(seized(b.store.folder, tmp_path / "closed"), known)


def note_ebids(epochs: Epochs, ebids: list[bytes]) -> None:
    """Write down every EBID from now on."""
    made = epochs.fresh

    def fresh(now: float) -> OwnEpoch:
        own = made(now)
        ebids.append(own.key.ebid)
        return own

    epochs.fresh = fresh  # type: ignore[method-assign]


async def test_a_copied_folder_tells_nothing_of_what_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with world(tmp_path, "ab") as there:
        known: Known = {}
        assert await lived(there, tmp_path, known) == (set(), set())
    assert len(caplog.text) > 500
    assert read(caplog.text.encode(), {name: ways for name, ways in known.items() if name != "text"}) == set()


class Unsealed(sqlcipher.Connection):  # type: ignore[misc]
    """A database that nobody gave a key."""

    def execute(self, sql: str, *values: object) -> object:
        return super().execute("SELECT 1" if sql.startswith("PRAGMA key") else sql, *values)


async def test_without_sealing_it_would_tell_nearly_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlcipher, "connect", functools.partial(sqlcipher.connect, factory=Unsealed))
    monkeypatch.setattr(database, "PAYLOAD", PAGE - 4)
    async with world(tmp_path, "ab") as there:
        while_open, closed = await lived(there, tmp_path, {})
    assert while_open == closed == {"E", "CCM", "nullifier", "credential", "RSSI", "text", "time"}
    # Not even then an EBID, which is never kept, and no token: they are made of E when they are looked for.


# --- sizes ---


def filled(folder: Path, peers: int) -> Store:
    """The store of somebody who met so many."""
    store = joined.make_store(folder)
    joined.join(store)
    store.keep_encounters(met(f"peer {number}", span=600) for number in range(peers))
    return store


def sizes(folder: Path) -> dict[str, int]:
    """What a look at the folder shows."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("stepped", [True, False])
def test_the_size_of_the_store_does_not_tell_how_many_were_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stepped: bool
) -> None:
    if not stepped:
        monkeypatch.setattr(database, "STEP", 1)
    seen = []
    for peers in (0, 1, 40, 1400):  # a hundred a day
        filled(tmp_path / str(peers), peers).close()
        seen.append(sizes(tmp_path / str(peers)))
    assert len({one[DATABASE] for one in seen}) == (1 if stepped else len(seen) - 1), "0 and 1 share a page"
    assert not stepped or all(one[DATABASE] == database.STEP * PAGE for one in seen)
    assert all(f"{DATABASE}-wal" not in one for one in seen), "no log is left of a store that was closed"


def log_of(folder: Path) -> list[int]:
    """The numbers of the pages in the log: these are in clear."""
    log = (folder / f"{DATABASE}-wal").read_bytes()[32:]
    return [struct.unpack(">I", log[at : at + 4])[0] for at in range(0, len(log), PAGE + FRAME)]


@pytest.mark.parametrize("folded", [True, False])
def test_the_log_tells_how_busy_it_was_only_until_it_is_folded_in(tmp_path: Path, folded: bool) -> None:
    pages = []
    for peers in (1, 100):
        store = filled(tmp_path / str(peers), 0)
        store.fold()
        store.keep_encounters(met(f"peer {number}", span=600) for number in range(peers))
        if folded:
            store.fold()
        pages.append(len(log_of(store.folder)))
        store.close()
    if folded:
        assert pages == [0, 0]
    else:
        assert pages[1] > pages[0] + 5, "how far it gets within half a minute"


# --- temporary files, core dumps ---


def temporary_files(store: Store) -> list[bytes]:
    """What is in files that are open and already deleted, while the store sorts more than a cache holds."""
    before = set(_deleted())
    with contextlib.closing(
        store._connection.execute("SELECT a.*, b.id FROM encounters a, encounters b ORDER BY a.secret || b.secret DESC")
    ) as rows:
        rows.fetchone()
        return [path.read_bytes() for path in set(_deleted()) - before]


def _deleted() -> list[Path]:
    from pathlib import Path

    links = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(path.readlink())
            if target.endswith("(deleted)") and "memfd" not in target:
                links.append(path)
    return links


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("in_memory", [True, False])
def test_no_temporary_file_gets_what_is_sorted(tmp_path: Path, in_memory: bool) -> None:
    store = filled(tmp_path / "data", 150)
    if not in_memory:
        store._connection.execute("PRAGMA temp_store = FILE")
    found = temporary_files(store)
    store.close()
    assert any(met("peer 7").secret in data for data in found) is not in_memory
    assert bool(found) is not in_memory


def core_dumped(folder: Path, *command: str) -> bool:
    """Whether a command that is aborted half way leaves its memory behind, however much its starter allows."""
    unlimited = resource.getrlimit(resource.RLIMIT_CORE)[1]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited)),
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.send_signal(6)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -6
        return os.WCOREDUMP(status)


PROGRAM = "import time; from {} import memory; {}; print('ready', flush=True); time.sleep(60)"


@pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux")
@pytest.mark.parametrize("room", ["agent", "backend_stub.keyring"])
@pytest.mark.parametrize("kept_off", [True, False])
def test_a_program_that_crashes_leaves_no_core_dump(tmp_path: Path, room: str, kept_off: bool) -> None:
    program = PROGRAM.format(room, "memory.keep_off_disk()" if kept_off else "pass")
    assert core_dumped(tmp_path, "-c", program) is not kept_off
    assert bool(list(tmp_path.iterdir())) is not kept_off


# --- the key of an epoch that is over ---


def remembered(pid: int) -> int:
    """How many seeds of epoch keys are anywhere in the memory of this process."""
    wanted = [part for number in range(EPOCHS) for part in (seed_of(number)[1:31], seed_of(number)[::-1][1:31])]
    found = set()
    for data in memory_of(pid):
        found |= {part for part in wanted if part in data}
    return len(found)


def memory_of(pid: int) -> Iterator[bytes]:
    """All of a process's memory that can be read."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:  # noqa: PTH123
        for line in maps:
            ends, rights, *_, name = line.split()
            if "r" in rights and name not in ("[vvar]", "[vsyscall]"):
                begin, end = (int(text, 16) for text in ends.split("-"))
                with contextlib.suppress(OSError):
                    memory.seek(begin)
                    yield memory.read(end - begin)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("destroyed", [True, False])
def test_keys_of_epochs_that_are_over_are_not_in_memory_any_more(destroyed: bool) -> None:
    """OpenSSL wipes its copy; Python wipes nothing, but the seed's place is soon taken by something else."""
    with child("tests.attacks.remembering", EPOCHS, *([] if destroyed else ["keeping"])) as process:
        assert process.stdin
        assert process.stdout
        counts = []
        for _ in range(2):
            process.stdout.readline()
            counts.append(remembered(process.pid))
            process.stdin.write("\n")
            process.stdin.flush()
        assert counts == [EPOCHS, 0 if destroyed else EPOCHS]
