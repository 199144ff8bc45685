"""The sealed store: everything the device remembers, in one SQLCipher file, never in clear anywhere.

Every process of the agent (the service and each `spot` command) opens it for itself; SQLite's own locking keeps them
apart.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent import database, sealing
from agent.kept import STEPS, Encounter, Exposure, State, StoredReport, Trace, read_encounter, read_report
from agent.samples import encode_samples
from protocol.errors import NotJoined, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from protocol.messages import Head
    from protocol.randomness import Random

DATABASE = "store.db"

T = TypeVar("T")


class Store:
    """The store of one data folder. Safe to use from several threads; raises StorageError for what the disk does."""

    def __init__(self, folder: Path, connection: Any) -> None:
        """Use `open_store` or `create_store` instead."""
        self.folder = folder
        self._connection = connection
        self._lock = threading.RLock()

    def close(self) -> None:
        """Let the file go; may be called twice."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._lock, database.translated(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                database.round_up(self._connection)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def fold(self) -> None:
        """Put what was written lately into its place: the log of it (-wal) tells how much was, and when."""
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy(self, path: Path, key: bytes) -> None:
        """Put all of it into a new file, under this key (32 bytes). Raises StorageError."""
        with self._lock:
            database.copy(self._connection, path, key)

    def check(self) -> None:
        """Read all of it. Raises StorageError where any page is damaged."""
        with self._lock:
            database.check(self._connection, self.folder)

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._lock, database.translated(self.folder):
            rows: list[Any] = self._connection.execute(query, tuple(values)).fetchall()
            return rows

    # --- single values ---

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value kept under this name, None where there is none."""
        rows = self._rows("SELECT value FROM state WHERE name = ?", [name])
        return msgspec.msgpack.decode(rows[0][0], type=kind) if rows else None

    def put(self, name: str, value: Any) -> None:
        """Keep a value under this name; None forgets it."""
        with self._transaction() as connection:
            if value is None:
                connection.execute("DELETE FROM state WHERE name = ?", [name])
            else:
                connection.execute("REPLACE INTO state VALUES (?, ?)", [name, msgspec.msgpack.encode(value)])

    def swap(self, name: str, before: Any, after: Any) -> bool:
        """Keep a value in place of another (None: of none); False where another process has just done so."""
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
            if (row and row[0]) != (None if before is None else msgspec.msgpack.encode(before)):
                return False
            connection.execute("REPLACE INTO state VALUES (?, ?)", [name, msgspec.msgpack.encode(after)])
            return True

    # --- encounters ---

    def keep_encounters(self, encounters: Iterable[Encounter]) -> None:
        """Write what was measured of encounters under way; what has been done with them since stays."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO encounters (secret, role, day, first, last, samples, state, due)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (secret) DO UPDATE SET last = max(last, excluded.last),"
                # One that was evicted and came back begins later: what was kept first stays.
                " samples = CASE WHEN first = excluded.first THEN excluded.samples ELSE samples END,"
                " state = CASE WHEN state = 'open' THEN excluded.state ELSE state END,"
                " due = CASE WHEN state = 'open' THEN excluded.due ELSE due END",
                [
                    (e.secret, e.role, e.day, e.first, e.last, encode_samples(e.first, e.samples), e.state.value, e.due)
                    for e in encounters
                ],
            )

    def drop_encounters(self, secrets: Sequence[bytes]) -> None:
        """Forget encounters that turned out too short to matter; in a flood there are thousands at once."""
        with self._transaction() as connection:
            query = "DELETE FROM encounters WHERE secret = ? AND state = 'open'"
            connection.executemany(query, [(secret,) for secret in secrets])

    def encounters(self, *, day: int | None = None, state: State | None = None) -> list[Encounter]:
        """The encounters kept, oldest first; of one day or in one state only, if given."""
        return self._encounters(
            "WHERE (?1 IS NULL OR day = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY first", [day, state and state.value]
        )

    def undeclared(self) -> list[Trace]:
        """The encounters that this device did not declare, without their samples, which are most of what is kept."""
        return [Trace(*row) for row in self._rows("SELECT id, secret, role, day FROM encounters WHERE NOT declared")]

    def due_encounters(self, now: float) -> list[Encounter]:
        """Those to be submitted or asked for again by now, the most overdue first."""
        return self._encounters("WHERE state IN ('waiting', 'pending') AND due <= ? ORDER BY due", [now])

    def next_due(self) -> float | None:
        """When the next submission is due, seconds since 1970."""
        rows = self._rows("SELECT min(due) FROM encounters WHERE state IN ('waiting', 'pending')")
        return rows[0][0] if rows else None

    def take_up(self, latest: float, first_day: int, due: Callable[[], float]) -> None:
        """Have those due later than that, and those of this day or later that were ended, due at times drawn anew."""
        wrong = "(state IN ('waiting', 'pending') AND due > ? OR state = 'ended' AND day >= ?)"
        found = self._rows(f"SELECT id FROM encounters WHERE {wrong}", [latest, first_day])  # noqa: S608
        if found:
            with self._transaction() as connection:
                connection.executemany(
                    "UPDATE encounters SET due = ?, state = iif(state = 'ended', 'pending', state), problem = ''"  # noqa: S608
                    f" WHERE id = ? AND {wrong}",
                    [(due(), number, latest, first_day) for (number,) in found],
                )

    def _encounters(self, where: str, values: Iterable[Any]) -> list[Encounter]:
        columns = ", ".join(Encounter.__dataclass_fields__)
        return [read_encounter(row) for row in self._rows(f"SELECT {columns} FROM encounters {where}", values)]  # noqa: S608

    def lease(self, encounter: Encounter, until: float) -> bool:
        """Take a due encounter for submission; False where another process has just taken it."""
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE encounters SET due = ?, attempts = attempts + 1 WHERE id = ? AND due = ?"
                " AND state IN ('waiting', 'pending')",
                [until, encounter.id, encounter.due],
            )
            return bool(changed.rowcount == 1)

    def settle(
        self,
        encounter: Encounter,
        state: State,
        *,
        due: float = 0.0,
        problem: str = "",
        record: bytes | None = None,
        refusals: int = 0,
    ) -> None:
        """Note what came of a submission. A signed encounter stays signed."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE encounters SET state = ?, due = ?, problem = ?, record = coalesce(?, record), refusals = ?"
                " WHERE id = ? AND state <> 'signed'",
                [state.value, due, problem, record, refusals, encounter.id],
            )

    def forget_before(self, day: int) -> None:
        """Delete everything about days before this one."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM encounters WHERE day < ?", [day])
            connection.execute("DELETE FROM reports WHERE made < ?", [day * 86400.0])

    # --- exposures and chains ---

    def keep_publication(self, head: Head, exposures: Iterable[tuple[int, int]]) -> None:
        """Note that a publication was looked through, with what was found: (encounter id, level)."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO links VALUES ('publications', ?, ?)", [head.number, head.hash])
            connection.execute("REPLACE INTO state VALUES ('publications', ?)", [msgspec.msgpack.encode(head)])
            connection.executemany(
                "INSERT INTO exposures VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(encounter, level, head.number) for encounter, level in exposures],
            )

    def keep_link(self, chain: str, number: int, link: bytes) -> None:
        """Note the hash of a chain's link."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO links VALUES (?, ?, ?)", [chain, number, link])

    def link(self, chain: str, number: int) -> bytes | None:
        """The hash of a chain's link that was followed."""
        rows = self._rows("SELECT hash FROM links WHERE chain = ? AND number = ?", [chain, number])
        return rows[0][0] if rows else None

    def exposures(self) -> list[Exposure]:
        """Every exposure found, oldest first."""
        found = {row[0]: row[1:] for row in self._rows("SELECT encounter, level, publication FROM exposures")}
        return [Exposure(e, *found[e.id]) for e in self.encounters() if e.id in found]

    # --- reports ---

    def keep_report(self, report: StoredReport) -> None:
        """Keep a report before it is sent."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    report.digest,
                    report.code,
                    report.report,
                    report.parameters,
                    report.reply_key,
                    msgspec.msgpack.encode(report.encounters),
                    report.made,
                    report.receipt,
                    report.seal_key,
                    report.valid_until,
                ],
            )

    def finish_report(self, report: StoredReport, receipt: bytes, *, accepted: bool) -> None:
        """Note what came of a report, which is not needed any more; if accepted, its contacts count as declared."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE reports SET receipt = ?, report = x'', reply_key = x'' WHERE digest = ?",
                [receipt, report.digest],
            )
            if accepted:
                declared = [(number,) for number in report.encounters]
                connection.executemany("UPDATE encounters SET declared = 1 WHERE id = ?", declared)

    def refuse_contact(self, number: int, problem: str) -> None:
        """Leave a contact that the authority did not accept out of later reports."""
        with self._transaction() as connection:
            connection.execute("UPDATE encounters SET state = 'refused', problem = ? WHERE id = ?", [problem, number])

    def ask_again(self, number: int, due: float, problem: str) -> None:
        """Have a signed contact signed anew; its old record stays until there is another."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE encounters SET state = 'pending', due = ?, problem = ?, attempts = 0, refusals = 0"
                " WHERE id = ?",
                [due, problem, number],
            )

    def reports(self) -> list[StoredReport]:
        """The reports kept, oldest first."""
        columns = ", ".join(StoredReport.__dataclass_fields__)
        return [read_report(row) for row in self._rows(f"SELECT {columns} FROM reports ORDER BY made")]  # noqa: S608


def create_store(folder: Path, place: sealing.KeyPlace, random: Random) -> Store:
    """The store of this folder, made with a fresh key where there is none yet. Raises StorageError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_made(folder):
            key_for(folder, place, random)
            (folder / DATABASE).touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); choose another with --data-dir") from None
    return _connect(folder, place)


def open_store(folder: Path, place: sealing.KeyPlace) -> Store:
    """The store of this folder. Raises NotJoined where there is none, StorageError."""
    if not is_made(folder):
        raise NotJoined(f"there is no agent in {folder} yet; start with: spot join URL --invite CODE")
    return _connect(folder, place)


def key_for(folder: Path, place: sealing.KeyPlace, random: Random) -> bytes:
    """The key for a store to be made: one that is there already, or a fresh one. Raises StorageError."""
    return sealing.find_key(folder, place) or sealing.make_key(folder, place, random)


def is_made(folder: Path) -> bool:
    """Whether there is a store in this folder."""
    try:
        return (folder / DATABASE).stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _connect(folder: Path, place: sealing.KeyPlace) -> Store:
    key = sealing.find_key(folder, place)
    if key is None:
        raise StorageError(
            f"the key of the store in {folder} is gone; put it back (keyring or {sealing.KEY_FILE}), or start "
            "anew with: spot leave"
        )
    return Store(folder, database.connect(folder / DATABASE, key, STEPS))
