"""What the store keeps: encounters, exposures and reports, and the tables that they are in.

What an encounter goes through is said by its state:

    open        under way, or too short so far
    waiting     to be submitted when its time comes
    pending     submitted; the other side has not been seen yet
    signed      a contact record is kept, ready to be declared
    ended       the other side never came in time, by this device's clock
    refused     three proxies answered that it can never be signed
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.samples import Sample, decode_samples

FIRST = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS encounters (
    id INTEGER PRIMARY KEY,
    secret BLOB NOT NULL UNIQUE,
    role INTEGER NOT NULL,
    day INTEGER NOT NULL,
    first REAL NOT NULL,
    last REAL NOT NULL,
    samples BLOB NOT NULL,
    state TEXT NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',
    record BLOB,
    declared INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS encounters_by_due ON encounters (state, due);
CREATE INDEX IF NOT EXISTS encounters_by_day ON encounters (day);
CREATE TABLE IF NOT EXISTS exposures (
    encounter INTEGER PRIMARY KEY REFERENCES encounters (id) ON DELETE CASCADE,
    level INTEGER NOT NULL,
    publication INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS links (
    chain TEXT NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (chain, number)
);
CREATE TABLE IF NOT EXISTS reports (
    digest BLOB PRIMARY KEY,
    code TEXT NOT NULL,
    report BLOB NOT NULL,
    parameters BLOB NOT NULL,
    reply_key BLOB NOT NULL,
    encounters BLOB NOT NULL,
    made REAL NOT NULL,
    receipt BLOB
);
"""

SEALS = """
ALTER TABLE reports ADD COLUMN seal_key BLOB NOT NULL DEFAULT x'';
ALTER TABLE reports ADD COLUMN valid_until REAL NOT NULL DEFAULT 0
"""

STEPS = (FIRST, SEALS)
"""What made each version of the store out of the one before."""
VERSION = len(STEPS)


class State(enum.Enum):
    """What an encounter goes through."""

    OPEN = "open"
    WAITING = "waiting"
    PENDING = "pending"
    SIGNED = "signed"
    ENDED = "ended"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Encounter:
    """A peer heard over an epoch. secret: E, 32 bytes; role: 0 or 1; first, last: seconds since 1970."""

    secret: bytes = field(repr=False)
    role: int
    day: int
    first: float
    last: float
    samples: tuple[Sample, ...] = field(repr=False)
    id: int = 0
    state: State = State.OPEN
    due: float = 0.0
    attempts: int = 0
    refusals: int = 0
    problem: str = ""
    record: bytes | None = field(default=None, repr=False)
    declared: bool = False

    @property
    def span(self) -> float:
        """Seconds between first and last sighting."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Trace:
    """What of an encounter it takes to recognise it in a publication. secret: E, 32 bytes; role: one's own."""

    id: int
    secret: bytes = field(repr=False)
    role: int
    day: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """An encounter whose peer declared. level: infectiousness, from 1; publication: where it was found."""

    encounter: Encounter
    level: int
    publication: int


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A declaration under way or done; its report is kept so that repeating it repeats the same bytes.

    parameters: the hash of their link; seal_key, valid_until: what they say (empty, 0: kept by an older program)
    """

    digest: bytes = field(repr=False)
    code: str = field(repr=False)
    report: bytes = field(repr=False)
    parameters: bytes = field(repr=False)
    reply_key: bytes = field(repr=False)
    encounters: tuple[int, ...]
    made: float
    receipt: bytes | None = field(default=None, repr=False)
    seal_key: bytes = field(default=b"", repr=False)
    valid_until: float = 0.0


def read_encounter(row: Any) -> Encounter:
    """An encounter of a row with its fields in order."""
    values = dict(zip(Encounter.__dataclass_fields__, row, strict=True))
    values["samples"] = decode_samples(values["first"], values["samples"])
    values["state"] = State(values["state"])
    values["declared"] = bool(values["declared"])
    return Encounter(**values)


def read_report(row: Any) -> StoredReport:
    """A report of a row with its fields in order."""
    values = dict(zip(StoredReport.__dataclass_fields__, row, strict=True))
    values["encounters"] = msgspec.msgpack.decode(values["encounters"], type=tuple[int, ...])
    return StoredReport(**values)
