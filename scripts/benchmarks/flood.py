"""scripts/bench flood: what floods of frames cost an agent, and whether it still finds who is really there.

An epoch beside ten real peers, fed where bleak would report it, with one flood after another beside it: each within the
ten minutes in the middle. Time is made up, so an epoch takes seconds.
"""

from __future__ import annotations

import gc
import json
import random
import time
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.progress import Progress

from agent.epochs import Epochs
from agent.proximity import Proximity
from ble.carriage import Carriage
from ble.frame import FRAME_SIZE, SLICE_SIZE, SLICES, Block, Frame, carousel
from ble.scanner import Scanner
from protocol.encounter import EpochKey
from scripts.benchmarks import fed
from scripts.benchmarks.simulation import EPOCH, NOON
from scripts.benchmarks.tables import machine, machine_text, notes, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    from ble.radio import Sighting

    Report: TypeAlias = tuple[float, BLEDevice, AdvertisementData]  # seconds into the epoch
    Flood: TypeAlias = Callable[[random.Random, int, Sequence[Sequence[Frame]]], Iterator[Report]]

PEERS = 10
SIZE = 10_000  # what a flood consists of
BETWEEN = (150.0, 750.0)  # seconds into the epoch
EVERY = 2.0  # seconds between two reports of a real peer, as BlueZ reports
FLUSH = 2.0  # seconds between two times that what was heard is kept
LEAST = 60.0  # seconds that a real peer's encounter has to span


class TakingScanner(Scanner):
    """A scanner whose sightings are taken without waiting."""

    def taken(self) -> Iterator[Sighting]:
        """What was heard since this was called last."""
        while self._inbox:
            yield self._inbox.popleft()


class Ear:
    """A scanner and what is behind it, taking in at once what is reported."""

    def __init__(self, chance: random.Random) -> None:
        self.time = NOON
        self.scanner = TakingScanner(self, Carriage())
        self.epochs = Epochs(EPOCH, 0, chance.randbytes)
        self.epochs.switch(self.epochs.fresh(NOON), NOON)
        self.proximity = Proximity(self.epochs)
        self.kept: dict[bytes, float] = {}
        self._flushed = NOON

    def now(self) -> float:
        """Unix seconds."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Nobody waits here."""

    def take(self, report: Report) -> None:
        """Take in what was reported, and now and then give what would be kept, as the service does."""
        at, device, advertisement = report
        self.time = NOON + at
        self.scanner.heard(device, advertisement)
        for sighting in self.scanner.taken():
            self.proximity.hear(sighting)
        if self.time - self._flushed >= FLUSH:
            self._flushed = self.time
            self.proximity.expire(self.time)
            self.keep()

    def keep(self) -> None:
        """Note the spans of what changed."""
        for one in self.proximity.changed() + self.proximity.finish(self.epochs.destroy(self.time)):
            self.kept[one.secret] = one.span


def _times(count: int) -> Iterator[float]:
    begin, end = BETWEEN
    return (begin + (end - begin) * number / count for number in range(count))


def nothing(_chance: random.Random, _size: int, _peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """No flood."""
    return iter(())


def forged_key_ids(chance: random.Random, size: int, _peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """Each frame has a key id of its own, and nothing behind it."""
    for number, at in enumerate(_times(size)):
        frame = Frame(chance.randrange(SLICES), chance.getrandbits(30), chance.randbytes(SLICE_SIZE))
        yield at, fed.device(number), fed.advertisement(frame.encode())


def made_up_peers(chance: random.Random, size: int, _peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """Whole carousels of EBIDs that are real keys: each costs an agreement of keys."""
    for number, at in enumerate(_times(size)):
        frames = carousel(Block(EpochKey(chance.randbytes(32)).ebid, 0).encode())
        for frame in frames[:3]:
            yield at, fed.device(number * SLICES + frame.index), fed.advertisement(frame.encode())


def garbage(chance: random.Random, size: int, _peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """Service data of any length, under our UUID and under others, any RSSI, a thousand UUIDs at once."""
    for number, at in enumerate(_times(size)):
        data = chance.randbytes(chance.choice((0, 1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 200)))
        made = fed.advertisement(data, rssi=chance.randrange(-128, 128))
        if number % 100 == 0:
            made = made._replace(service_uuids=[str(chance.random()), *[chance.randbytes(16).hex()] * 1000])
        yield at, fed.device(number), made


def altered(chance: random.Random, size: int, peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """Frames under the real peers' key ids, with other slices."""
    for number, at in enumerate(_times(size)):
        real = chance.choice(chance.choice(peers))
        frame = Frame(real.index, real.key_id, chance.randbytes(SLICE_SIZE))
        yield at, fed.device(number), fed.advertisement(frame.encode())


def replayed(chance: random.Random, size: int, peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """The real peers' own frames, again and again, in any order."""
    for number, at in enumerate(_times(size)):
        frame = chance.choice(chance.choice(peers))
        yield at, fed.device(number), fed.advertisement(frame.encode(), rssi=-90)


def one_address(chance: random.Random, size: int, _peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    """One address with a thousand key ids."""
    address, names = fed.device(0), [chance.getrandbits(30) for _ in range(1000)]
    for at in _times(size):
        frame = Frame(chance.randrange(SLICES), chance.choice(names), chance.randbytes(SLICE_SIZE))
        yield at, address, fed.advertisement(frame.encode())


FLOODS: dict[str, Flood] = {
    "no flood": nothing,
    "forged key ids": forged_key_ids,
    "made-up peers": made_up_peers,
    "garbage": garbage,
    "altered slices": altered,
    "replayed slices": replayed,
    "one address, 1000 ids": one_address,
}


@dataclass(frozen=True)
class Outcome:
    """found: real peers with a long enough encounter; of those that come during the flood: how many; reports: fed."""

    reports: int
    cpu_seconds: float
    peak_megabytes: float
    found: int
    newcomers_found: int
    encounters: int


def run_flood(flood: Flood, size: int, *, trace: bool = False) -> Outcome:
    """An epoch beside real peers, half of whom come in the middle of the flood."""
    chance = random.Random(1)  # noqa: S311 (to be repeatable)
    ear = Ear(chance)
    keys = [EpochKey(chance.randbytes(32)) for _ in range(PEERS)]
    blocks = [Block(key.ebid, 0).encode() for key in keys]
    peers = [carousel(block) for block in blocks]
    reports = sorted([*_real(peers), *flood(chance, size, peers)], key=lambda report: report[0])
    gc.collect()
    if trace:
        tracemalloc.start()
    begun = time.process_time()
    for report in reports:
        ear.take(report)
    taken = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1] / 2**20 if trace else 0.0
    tracemalloc.stop()
    ear.keep()
    own = ear.epochs.on_air(ear.time)
    met = [
        own is not None and ear.kept.get(key.meet(block, own.block), 0.0) >= LEAST
        for key, block in zip(keys, blocks, strict=True)
    ]
    return Outcome(len(reports), taken, peak, sum(met), sum(met[PEERS // 2 :]), len(ear.kept))


def _real(peers: Sequence[Sequence[Frame]]) -> Iterator[Report]:
    middle = sum(BETWEEN) / 2
    for number, frames in enumerate(peers):
        begun = (0.0 if number < PEERS // 2 else middle) + number * EVERY / PEERS
        for turn in range(int((EPOCH - 1 - begun) / EVERY)):
            frame = frames[turn % SLICES]
            yield (
                begun + turn * EVERY,
                fed.device(1 << 32 | number * SLICES | frame.index),
                fed.advertisement(frame.encode()),
            )


def measure(size: int) -> dict[str, Outcome]:
    """Each flood twice: for the processor, and, with memory traced, which takes its time, for memory."""
    rows = {}
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("floods", total=len(FLOODS))
        for name, flood in FLOODS.items():
            traced = run_flood(flood, size, trace=True)
            plain = run_flood(flood, size)
            rows[name] = Outcome(**vars(plain) | {"peak_megabytes": traced.peak_megabytes})
            progress.advance(task)
    return rows


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("flood", help="what floods of frames cost, and whether real peers are still found")
    parser.add_argument("--size", type=int, default=SIZE, help="forged ids or frames in an epoch (default 10000)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where a real peer is not found."""
    rows = measure(options.size)
    lost = [name for name, row in rows.items() if row.found < PEERS]
    if options.json:
        content = {"size": options.size, "machine": machine(), "rows": {name: vars(row) for name, row in rows.items()}}
        print(json.dumps(content, indent=2))
        return int(bool(lost))
    still = rows["no flood"]
    show(
        f"One epoch beside {PEERS} real peers, and {options.size} of a flood",
        ["flood", "reports", "CPU s", "more, µs each", "peak MB", "real found", "of these, newcomers", "encounters"],
        [
            [
                name,
                str(row.reports),
                f"{row.cpu_seconds:.2f}",
                f"{_each(row, still):.0f}" if row is not still else "",
                f"{row.peak_megabytes:.1f}",
                f"{row.found} of {PEERS}",
                f"{row.newcomers_found} of {PEERS // 2}",
                str(row.encounters),
            ]
            for name, row in rows.items()
        ],
        "From the scanner's callback to encounters, processor time. A made-up peer is three reports and an agreement "
        "of keys. Newcomers come in the middle of the flood. Peak: memory allocated meanwhile, traced in a run of its "
        "own. Encounters: what would be kept, short ones until the epoch ends.",
        machine_text(),
    )
    return int(bool(lost))


def _each(row: Outcome, still: Outcome) -> float:
    return (row.cpu_seconds - still.cpu_seconds) / (row.reports - still.reports) * 1e6
