"""Recordings of real radios beside true distances, cut into windows of who heard whom.

Two forms are read, wherever they lie below a folder:

*.sqlite        one scenario a file, with a table `results` (DP-3T bt-measurements): receiver_id, receiver_model,
                transmitter_id, transmitter_model, timestamp (ms since 1970), rssi (dBm), tx_power (dBm),
                ground_truth_distance (m; negative or null: not known)
*NNNcm*.csv     two still devices NNN cm apart (Exposure-Notification-on-RPi): Timestamp (s since 1970), RSSI (dBm),
                RPI, Version, TX_Power (hexadecimal)
"""

from __future__ import annotations

import contextlib
import csv
import re
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEAR = 2.0  # metres
WINDOW = 900  # seconds: an epoch
POSSIBLE = range(-110, 1)  # dBm


@dataclass(frozen=True, slots=True)
class Reading:
    """One packet. at: s; rssi, power: dBm; metres: None where not known."""

    at: float
    rssi: int
    power: int
    metres: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """What one device heard of another within a window. models: receiver's, transmitter's."""

    scenario: str
    receiver: str
    transmitter: str
    models: tuple[str, str]
    readings: tuple[Reading, ...]

    @property
    def distances(self) -> list[float]:
        """The known ones, a packet each."""
        return [one.metres for one in self.readings if one.metres is not None]

    @property
    def near(self) -> bool:
        """Within NEAR for most of what is known of it."""
        return 2 * sum(metres <= NEAR for metres in self.distances) > len(self.distances)

    @property
    def near_on_average(self) -> bool:
        """Within NEAR in the mean."""
        return sum(self.distances) <= NEAR * len(self.distances)

    @property
    def near_two_minutes(self) -> bool:
        """Within NEAR in at least two different minutes."""
        return len({one.at // 60 for one in self.readings if one.metres is not None and one.metres <= NEAR}) >= 2


def phones(folder: Path) -> tuple[list[Window], int]:
    """The windows of scenarios with people whose distance is known at some time; and how many were left out."""
    known, unknown = [], 0
    for file in sorted(folder.rglob("*.sqlite")):
        for window in _cut(file):
            if window.distances:
                known.append(window)
            else:
                unknown += 1
    return known, unknown


def _cut(file: Path) -> Iterator[Window]:
    columns = (
        "receiver_id, receiver_model, transmitter_id, transmitter_model, timestamp, rssi, tx_power,"
        " ground_truth_distance"
    )
    packets = defaultdict(list)
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
            rows = connection.execute(f"SELECT {columns} FROM results ORDER BY timestamp, db_id").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        raise Misuse(f"{file} is no recording ({error}); see: scripts/bench exposure --help") from None
    for receiver, heard_by, transmitter, sent_by, stamp, rssi, power, metres in rows:
        if rssi not in POSSIBLE:
            continue
        at = stamp / 1000
        distance = metres if metres is not None and metres >= 0 else None
        key = (str(receiver), str(transmitter), (heard_by, sent_by), int(at // WINDOW))
        packets[key].append(Reading(at, rssi, power, distance))
    for (receiver, transmitter, models, _), readings in packets.items():
        yield Window(file.stem, receiver, transmitter, models, tuple(readings))


def pairs(folder: Path, seconds: int) -> list[Window]:
    """The windows, of so many seconds, of still pairs."""
    found = []
    for file in sorted(folder.rglob("*.csv")):
        if named := re.search(r"(\d+)cm", file.name):
            try:
                found += _cut_still(file, int(named[1]) / 100, seconds)
            except (KeyError, ValueError, IndexError) as error:
                text = f"{file} is no recording ({error!r}); see: scripts/bench exposure --help"
                raise Misuse(text) from None
    return found


def _cut_still(file: Path, metres: float, seconds: int) -> list[Window]:
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        rows = list(csv.DictReader(opened))
    # Packets of other devices, and broken ones, are few: what most rows have is the pair's.
    kind = Counter((row["RPI"], row["Version"], row["TX_Power"]) for row in rows).most_common(1)[0][0]
    packets = defaultdict(list)
    for row in rows:
        if (row["RPI"], row["Version"], row["TX_Power"]) == kind and int(row["RSSI"]) in POSSIBLE:
            power = int.from_bytes(bytes.fromhex(kind[2]), "big", signed=True)
            at = float(row["Timestamp"])
            packets[at // seconds].append(Reading(at, int(row["RSSI"]), power, metres))
    name = file.stem
    return [Window(name, name, name, ("RPi", "RPi"), tuple(sorted(one, key=_time))) for one in packets.values()]


def _time(reading: Reading) -> float:
    return reading.at
