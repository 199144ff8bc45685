"""Who was near whom, as sensors recorded it: files of SocioPatterns' form, read into days of 20-second slots."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.encounter import SECONDS_A_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOT = 20  # seconds: what the sensors tell apart
START_DAY = 20_003  # a Monday: the first day of every file, since most tell no date
SUFFIXES = (".dat", ".csv", ".txt", ".zip", ".gz")
FIELDS = 3

Pair = tuple[str, str]  # in order


@dataclass(frozen=True)
class Contacts:
    """people: by name; days: by number from 0, the pairs near each other by slot's begin (seconds since 1970)."""

    people: tuple[str, ...]
    days: dict[int, dict[int, frozenset[Pair]]]
    digest: str

    @property
    def length(self) -> int:
        """Days from the first to the last."""
        return max(self.days) + 1

    def seconds(self) -> Counter[tuple[int, Pair]]:
        """How long each pair was near each other, by day."""
        total: Counter[tuple[int, Pair]] = Counter()
        for day, slots in self.days.items():
            for pairs in slots.values():
                for pair in pairs:
                    total[day, pair] += SLOT
        return total


def read(path: Path, days: int | None = None, people: int | None = None) -> Contacts:
    """The contacts in a file, or in the one file of a folder; the first so many days, those with most contact.

    Raises ValueError, which says what is wrong with the file; FileNotFoundError where there is none.
    """
    data = _content(_file(path))
    rows = list(_rows(data))
    if not rows:
        raise ValueError(f"{path} has no rows of the form: second person person")
    first = min(at for at, _, _ in rows) // SECONDS_A_DAY
    rows = [(at - first * SECONDS_A_DAY, one, other) for at, one, other in rows]
    rows = [row for row in rows if days is None or row[0] // SECONDS_A_DAY < days]
    counts = Counter(name for _, one, other in rows for name in (one, other))
    chosen = {name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:people]}
    found: dict[int, dict[int, set[Pair]]] = defaultdict(lambda: defaultdict(set))
    for at, one, other in rows:
        if one in chosen and other in chosen:
            slot = START_DAY * SECONDS_A_DAY + at // SLOT * SLOT
            found[at // SECONDS_A_DAY][slot].add((min(one, other), max(one, other)))
    frozen = {day: {slot: frozenset(pairs) for slot, pairs in sorted(slots.items())} for day, slots in found.items()}
    return Contacts(tuple(sorted(chosen)), dict(sorted(frozen.items())), hashlib.sha256(data).hexdigest())


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if ".dat" in file.suffixes or file.suffix in (".dat", ".csv"))
    if len(files) != 1:
        raise FileNotFoundError(f"{path} has {len(files)} files of contacts ({', '.join(SUFFIXES)}); name one of them")
    return files[0]


def _content(file: Path) -> bytes:
    data = file.read_bytes()
    if file.suffix == ".gz":
        return gzip.decompress(data)
    if file.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__")]
            if len(names) != 1:
                raise ValueError(f"{file} holds {len(names)} files; one is wanted")
            return archive.read(names[0])
    return data


def _rows(data: bytes) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(data.decode().splitlines(), 1):
        words = line.replace(",", " ").replace(";", " ").split()
        if not words or words[0].startswith("#") or (number == 1 and not words[0].isdigit()):
            continue  # a heading
        if len(words) < FIELDS or not words[0].isdigit() or words[1] == words[2]:
            raise ValueError(f"line {number} is not of the form: second person person")
        yield int(words[0]), words[1], words[2]
