"""The sealed store: what it keeps, from whom, and through what."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent import database, sealing
from agent.kept import STEPS, VERSION, State, StoredReport
from agent.samples import encode_samples
from agent.store import DATABASE, create_store, open_store
from protocol import encounter, messages
from protocol.curve import encode_scalar
from protocol.errors import Busy, NotJoined, SpotError, StorageError
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.joined import met
from tests.agent.processes import children_at_once
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.kept import Encounter
    from agent.store import Store

DAY = 20_000


def reopened(store: Store) -> Store:
    store.close()
    return open_store(store.folder, "file")


def report(digest: bytes = b"d" * 32, *, made: float = NOON, encounters: tuple[int, ...] = (1,)) -> StoredReport:
    return StoredReport(digest, "ABCDEFGHIJKLMNOP", b"the report", bytes(32), b"reply key", encounters, made)


# --- encounters ---


def test_an_encounter_comes_back_as_it_was(store: Store) -> None:
    store.keep_encounters([met()])
    (one,) = store.encounters()
    assert one == replace(met(), id=1)
    again = reopened(store)
    assert again.encounters() == [one]
    again.close()


def test_encounters_come_oldest_first_and_by_day_and_state(store: Store) -> None:
    late, early = met("late"), met("early", first=NOON - 86400)
    waiting = replace(met("waiting", first=NOON + 5), state=State.WAITING, due=NOON)
    store.keep_encounters([late, early, waiting])
    assert [one.secret for one in store.encounters()] == [early.secret, late.secret, waiting.secret]
    assert [one.secret for one in store.encounters(day=DAY - 1)] == [early.secret]
    assert [one.secret for one in store.encounters(day=DAY, state=State.OPEN)] == [late.secret]
    assert store.encounters(day=DAY + 1) == []


def test_what_was_measured_is_brought_up_to_date(store: Store) -> None:
    store.keep_encounters([met(span=20)])
    store.keep_encounters([met(span=60)])
    (one,) = store.encounters()
    assert one == replace(met(span=60), id=1)


def test_an_encounter_never_gets_shorter(store: Store) -> None:
    store.keep_encounters([met(span=60)])
    store.keep_encounters([met(span=20)])
    assert store.encounters()[0].span == 60


def test_one_that_came_back_keeps_its_beginning(store: Store) -> None:
    store.keep_encounters([met(span=60)])
    later = met(first=NOON + 100, span=30)
    store.keep_encounters([later])
    (one,) = store.encounters()
    assert (one.first, one.last, one.samples) == (NOON, later.last, met(span=60).samples)


@pytest.mark.parametrize("state", [state for state in State if state is not State.OPEN])
def test_measuring_on_undoes_nothing_that_was_done_since(store: Store, state: State) -> None:
    store.keep_encounters([met(span=60)])
    (one,) = store.encounters()
    store.settle(one, state, due=NOON + 7, problem="a problem", record=b"record", refusals=2)
    store.keep_encounters([met(span=90), replace(met(span=90), state=State.WAITING, due=1.0)])
    (now,) = store.encounters()
    assert (now.state, now.due, now.problem, now.record, now.refusals) == (state, NOON + 7, "a problem", b"record", 2)
    assert now.span == 90
    store.drop_encounters([now.secret])
    assert store.encounters() == [now]


def test_what_turned_out_too_short_is_dropped(store: Store) -> None:
    store.keep_encounters([met("short"), met("long")])
    store.drop_encounters([met("short").secret, bytes(32)])
    assert [one.secret for one in store.encounters()] == [met("long").secret]


def test_all_or_nothing(store: Store) -> None:
    broken = replace(met("broken"), day=None)  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        store.keep_encounters([met("whole"), broken])
    assert store.encounters() == []
    store.keep_encounters([met("whole")])
    assert len(store.encounters()) == 1


def waiting(store: Store, *dues: float) -> list[Encounter]:
    store.keep_encounters([replace(met(f"due {due}"), state=State.WAITING, due=due) for due in dues])
    return store.encounters()


def test_what_is_due_comes_most_overdue_first(store: Store) -> None:
    assert store.next_due() is None
    waiting(store, NOON + 3, NOON + 1, NOON + 2)
    assert [one.due for one in store.due_encounters(NOON + 2)] == [NOON + 1, NOON + 2]
    assert store.due_encounters(NOON) == []
    assert store.next_due() == NOON + 1


@pytest.mark.parametrize("state", [State.OPEN, State.SIGNED, State.ENDED, State.REFUSED])
def test_only_waiting_and_pending_ones_are_due(store: Store, state: State) -> None:
    (one,) = waiting(store, NOON)
    store.settle(one, State.PENDING, due=NOON)
    assert len(store.due_encounters(NOON)) == 1
    store.settle(one, state, due=NOON)
    assert store.due_encounters(NOON) == []
    assert store.next_due() is None


def test_a_lease_is_got_once_and_counts(store: Store) -> None:
    (one,) = waiting(store, NOON)
    assert store.lease(one, NOON + 120)
    assert not store.lease(one, NOON + 120)
    (leased,) = store.encounters()
    assert (leased.due, leased.attempts) == (NOON + 120, 1)
    assert store.due_encounters(NOON + 119) == []
    assert store.lease(leased, NOON + 240), "one that was not settled is taken up again"


def test_a_signed_encounter_stays_signed(store: Store) -> None:
    (one,) = waiting(store, NOON)
    store.settle(one, State.SIGNED, record=b"record")
    store.settle(one, State.PENDING, due=NOON)
    store.settle(one, State.ENDED, problem="the other side never came")
    (now,) = store.encounters()
    assert (now.state, now.record) == (State.SIGNED, b"record")


# --- taking up, forgetting ---


def test_old_days_are_forgotten_with_all_that_hangs_on_them(store: Store) -> None:
    store.keep_encounters([met("old", first=NOON - 86400), met("new")])
    old, new = store.encounters()
    head = messages.Head(number=0, hash=bytes(32))
    store.keep_publication(head, [(old.id, 1), (new.id, 2)])
    store.keep_report(report(b"old" * 10, made=DAY * 86400.0 - 1))
    store.keep_report(report(b"new" * 10, made=DAY * 86400.0))
    store.forget_before(DAY)
    assert store.encounters() == [new]
    assert [(one.encounter.id, one.level) for one in store.exposures()] == [(new.id, 2)]
    assert [one.digest for one in store.reports()] == [b"new" * 10]
    assert store._rows("SELECT count(*) FROM exposures") == [(1,)]


def test_nothing_is_left_in_the_file_of_what_was_forgotten(store: Store) -> None:
    assert store._rows("PRAGMA secure_delete") == [(1,)]
    assert store._rows("PRAGMA temp_store") == [(2,)]


# --- publications, reports ---


def test_an_exposure_is_noted_once(store: Store) -> None:
    store.keep_encounters([met()])
    store.keep_publication(messages.Head(number=0, hash=b"0" * 32), [(1, 2)])
    store.keep_publication(messages.Head(number=1, hash=b"1" * 32), [(1, 1)])
    (one,) = store.exposures()
    assert (one.encounter.id, one.level, one.publication) == (1, 2, 0)
    assert store.link("publications", 0) == b"0" * 32
    assert store.link("publications", 1) == b"1" * 32
    assert store.link("publications", 2) is None
    assert store.link("parameters", 1) is None


def test_a_publication_is_noted_with_its_exposures_or_not_at_all(store: Store) -> None:
    with pytest.raises(StorageError):
        store.keep_publication(messages.Head(number=0, hash=bytes(32)), [(12345, 1)])
    assert store.link("publications", 0) is None
    assert store.get("publications", messages.Head) is None


def test_a_report_from_making_to_answer(store: Store) -> None:
    store.keep_encounters([met("one"), met("two")])
    one, two = store.encounters()
    made = report(encounters=(one.id,))
    store.keep_report(made)
    assert store.reports() == [made]
    store.finish_report(made, b"no", accepted=False)
    assert not any(found.declared for found in store.encounters())
    store.finish_report(made, b"receipt", accepted=True)
    assert store.reports() == [replace(made, receipt=b"receipt", report=b"", reply_key=b"")]
    assert [found.declared for found in store.encounters()] == [True, False]
    store.refuse_contact(two.id, "why")
    assert [(found.state, found.problem) for found in store.encounters(state=State.REFUSED)] == [(State.REFUSED, "why")]


# --- single values ---


def test_a_value_is_kept_changed_and_forgotten(store: Store) -> None:
    assert store.get("name", int) is None
    store.put("name", 1)
    store.put("name", 2)
    assert store.get("name", int) == 2
    store.put("name", None)
    store.put("name", None)
    assert store.get("name", int) is None


def test_closing_twice(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageError):
        store.get("name", int)


# --- sealed ---


def test_nothing_can_be_read_without_the_key(folder: Path) -> None:
    store = joined.make_store(folder)
    joined.join(store, url="http://authority.example")
    one = replace(met(), state=State.WAITING, due=NOON)
    store.keep_encounters([one])
    store.settle(store.encounters()[0], State.PENDING, problem="a problem to be told")
    store.keep_report(report())
    known = [
        one.secret,
        encounter.ccm_of(one.secret),
        encounter.token_of(one.secret, 0),
        encounter.token_of(one.secret, 1),
        encode_samples(one.first, one.samples)[:12],
        encode_scalar(joined.world().alice.credential.secret),
        joined.world().alice.issued.s1,
        joined.INVITATION.encode(),
        b"ABCDEFGHIJKLMNOP",
        b"reply key",
        b"authority.example",
        b"Example authority",
        b"encounters",
        b"CREATE TABLE",
        b"SQLite format 3",
        b"a problem",
        b"pending",
    ]
    open_files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert f"{DATABASE}-wal" in open_files, "what has just been written is looked at as well"
    store.close()
    closed_files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for files in (open_files, closed_files):
        for name, content in files.items():
            assert not [secret for secret in known if secret in content], name
            if name != sealing.KEY_FILE:
                assert Source("store key")(32) not in content
    assert sum(map(len, closed_files.values())) > 4096


def test_only_its_owner_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        store = joined.make_store(folder)
        joined.join(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    store.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.keys() >= {DATABASE, f"{DATABASE}-wal", sealing.KEY_FILE}
    assert set(modes.values()) == {0o600}


def test_what_it_holds_is_no_more_than_it_needs(store: Store) -> None:
    """No EBID, no address, no single RSSI: a column more is to be thought about here."""
    names = [row[0] for row in store._rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    columns = {name: {row[1] for row in store._rows(f"PRAGMA table_info({name})")} for name in names}
    assert columns == {
        "encounters": {
            "id", "secret", "role", "day", "first", "last", "samples", "state", "due", "attempts", "refusals",
            "problem", "record", "declared",
        },
        "exposures": {"encounter", "level", "publication"},
        "links": {"chain", "number", "hash"},
        "reports": {
            "digest", "code", "report", "parameters", "reply_key", "encounters", "made", "receipt", "seal_key",
            "valid_until"
        },
        "state": {"name", "value"},
    }  # fmt: skip


# --- what can be wrong with the files ---


def test_no_store_yet(folder: Path) -> None:
    with pytest.raises(NotJoined, match="spot join"):
        open_store(folder, "file")
    folder.mkdir()
    with pytest.raises(NotJoined):
        open_store(folder, "file")
    (folder / DATABASE).touch()
    with pytest.raises(NotJoined):
        open_store(folder, "file")


def test_making_it_again_finds_what_was_there(store: Store) -> None:
    store.put("name", "kept")
    again = create_store(store.folder, "file", Source("another key"))
    assert again.get("name", str) == "kept"
    again.close()


def test_a_key_without_a_store_is_used(folder: Path) -> None:
    folder.mkdir()
    key = sealing.make_key(folder, "file", Source("left"))
    create_store(folder, "file", Source("another")).close()
    assert (folder / sealing.KEY_FILE).read_bytes() == key
    open_store(folder, "file").close()


def with_wrong_key(folder: Path) -> None:
    (folder / sealing.KEY_FILE).write_bytes(bytes(32))


def with_first_page_damaged(folder: Path) -> None:
    content = bytearray((folder / DATABASE).read_bytes())
    content[100] ^= 1
    (folder / DATABASE).write_bytes(content)


def with_other_file(folder: Path) -> None:
    (folder / DATABASE).write_bytes(b"SQLite format 3\0" + bytes(8192))


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / DATABASE, size)


@pytest.mark.parametrize(
    "damage",
    [with_wrong_key, with_first_page_damaged, with_other_file, cut_to(1000), cut_to(4095)],
    ids=["wrong key", "first page", "another file", "1000 bytes", "4095 bytes"],
)
def test_what_cannot_be_opened_is_told(store: Store, damage: Callable[[Path], None]) -> None:
    store.close()
    damage(store.folder)
    with pytest.raises(StorageError, match=r"key, or is damaged.*spot leave"):
        open_store(store.folder, "file")


def pages_of(store: Store) -> list[int]:
    """Every page that is used, and some of the free ones, from 0."""
    used, free = (store._rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count"))
    used -= free
    assert 20 < used < 200
    return [*range(1, used), *range(used, used + free, 150), used + free - 1]


def test_any_damaged_page_is_told_when_it_is_read(store: Store) -> None:
    store.keep_encounters([met(f"peer {number}") for number in range(200)])
    pages = pages_of(store)
    store.close()
    content = (store.folder / DATABASE).read_bytes()
    assert len(content) == (pages[-1] + 1) * 4096
    for number, page in enumerate(pages):
        damaged = bytearray(content)
        damaged[page * 4096 + (0, 2000, 4095)[number % 3]] ^= 0x10
        (store.folder / DATABASE).write_bytes(damaged)
        with pytest.raises(StorageError, match="damaged"):  # noqa: PT012 (which read finds it depends on the page)
            again = open_store(store.folder, "file")
            try:
                again.check()
            finally:
                again.close()
        assert (store.folder / DATABASE).read_bytes() == damaged, "left as it is, for whoever can mend it"
    (store.folder / DATABASE).write_bytes(content)
    again = open_store(store.folder, "file")
    again.check()
    assert len(again.encounters()) == 200
    again.close()


def test_a_truncated_store_is_told(store: Store) -> None:
    store.keep_encounters([met(f"peer {number}") for number in range(200)])
    store.close()
    os.truncate(store.folder / DATABASE, 8192)
    with pytest.raises(StorageError, match="damaged"):
        open_store(store.folder, "file")


def test_a_lost_key_is_told(store: Store) -> None:
    store.close()
    (store.folder / sealing.KEY_FILE).unlink()
    with pytest.raises(StorageError, match=r"key .* is gone"):
        open_store(store.folder, "file")
    with pytest.raises(StorageError, match=r"key .* is gone"):
        create_store(store.folder, "file", Source("another"))


def test_a_newer_version_is_told_and_left_alone(store: Store) -> None:
    store.put("name", "kept")
    store._rows(f"PRAGMA user_version = {VERSION + 1}")
    store.close()
    with pytest.raises(StorageError, match="update"):
        open_store(store.folder, "file")
    before = (store.folder / DATABASE).read_bytes()
    with pytest.raises(StorageError, match="update"):
        create_store(store.folder, "file", Source("another"))
    assert (store.folder / DATABASE).read_bytes() == before


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    connection = database.connect(tmp_path / DATABASE, sealing.make_key(tmp_path, "file", Source("key")), STEPS[:1])
    row = (b"d" * 32, "ABCDEFGHIJKLMNOP", b"the report", bytes(32), b"reply key", b"\x91\x01", NOON, None)
    connection.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()
    for _ in range(2):
        store = open_store(tmp_path, "file")
        assert store.reports() == [report()]
        assert store._rows("PRAGMA user_version") == [(VERSION,)]
        store.close()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="--data-dir"):
            create_store(folder, "file", Source("key"))
        with pytest.raises(SpotError):
            open_store(folder, "file")


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB. Mounting one needs root, or CAP_SYS_ADMIN; nothing stands in for it."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "spot-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def use_up(store: Store) -> None:
    """Leave next to nothing of the room that the store took beforehand."""
    while (free := store._rows("PRAGMA freelist_count")[0][0]) > 3:
        store.put(f"filling {free}", bytes(4000 * (free - 2)))
        store.fold()


def test_a_disk_that_runs_full_loses_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    store = joined.make_store(small_disk / "data")
    joined.join(store)
    store.keep_encounters([met("before")])
    use_up(store)
    ballast = fill(small_disk)
    for _ in range(3):
        with pytest.raises(StorageError, match="the disk is full"):
            store.keep_encounters([met(f"peer {number}") for number in range(300)])
    assert [one.secret for one in store.encounters()] == [met("before").secret]
    ballast.unlink()
    store.keep_encounters([met("after")])
    assert {one.secret for one in store.encounters()} == {met("before").secret, met("after").secret}
    again = reopened(store)
    assert len(again.encounters()) == 2
    assert again._rows("PRAGMA integrity_check") == [("ok",)]
    again.close()


def test_small_writes_on_a_full_disk(small_disk: Path) -> None:
    store = joined.make_store(small_disk / "data")
    use_up(store)
    ballast = fill(small_disk)
    texts = set()
    for number in range(200):
        try:
            store.put(f"name {number}", bytes(5000))
        except StorageError as error:
            texts.add(error.text)
    assert texts == {"the disk is full: nothing was lost, nothing new is kept; free some space"}
    ballast.unlink()
    store.put("name", "written")
    assert store.get("name", str) == "written"
    store.close()


def test_a_store_cannot_be_made_on_a_full_disk_and_can_be_later(small_disk: Path) -> None:
    folder = small_disk / "data"
    ballast = fill(small_disk)
    with pytest.raises(StorageError):
        joined.make_store(folder)
    ballast.unlink()
    store = joined.make_store(folder)
    store.put("name", 1)
    store.close()


# --- several at once ---


def test_two_processes_write_at_once(store: Store) -> None:
    children_at_once(("write", store.folder, "one", 60), ("write", store.folder, "other", 60))
    assert len(store.encounters()) == 120
    assert (store.get("one", int), store.get("other", int)) == (59, 59)


def test_no_encounter_is_leased_twice(store: Store) -> None:
    store.keep_encounters([replace(met(f"peer {number}"), state=State.WAITING, due=NOON) for number in range(100)])
    got = [int(line) for lines in children_at_once(*[("lease", store.folder, NOON)] * 3) for line in lines]
    assert sorted(got) == [one.id for one in store.encounters()]
    assert {one.attempts for one in store.encounters()} == {1}


def test_threads_share_a_store(store: Store) -> None:
    def work(name: str) -> None:
        for number in range(30):
            store.keep_encounters([met(f"{name} {number}")])
            store.encounters(day=DAY)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.encounters()) == 90


def test_several_processes_make_one_store(folder: Path) -> None:
    folder.mkdir()
    sealing.make_key(folder, "file", Source("store key"))
    children_at_once(*[("make", folder)] * 3)
    open_store(folder, "file").close()


def test_one_who_holds_the_store_too_long_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    other = open_store(store.folder, "file")
    with store._transaction():
        with pytest.raises(Busy, match="try again"):
            other.put("name", 1)
        assert other.get("name", int) is None, "reading goes on"
    other.put("name", 1)
    other.close()


def test_the_librarys_errors_do_not_come_through(store: Store) -> None:
    with pytest.raises(StorageError, match="cannot be used"):
        store._rows("SELECT nothing FROM nowhere")
