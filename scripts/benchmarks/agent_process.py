"""One row of scripts/bench agent, in a process of its own: `python -m scripts.benchmarks.agent_process --help`.

It imports what `spot run` does and little else, so that its memory is that of an agent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agent.cli  # noqa: F401 (it takes memory in an agent, too)
from agent.clock import Clock
from agent.service import Service
from agent.store import open_store
from protocol.curve import open_curve
from scripts.benchmarks import fed
from scripts.benchmarks.simulation import EPOCH, NOON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    Callback = Callable[[BLEDevice, AdvertisementData], None]
    Reports = Iterator[tuple[BLEDevice, AdvertisementData]]

BEAT = 0.1  # seconds between two helpings
HELPING = 500  # advertisements that a radio's queue takes at once
SETTLE = 5.0  # seconds until what the start took is over
SPACING = 5.0  # seconds between two advertisements of a peer in the half of the epoch that is over


@dataclass(frozen=True, slots=True)
class ShiftedClock(Clock):
    """The machine's own seconds from another moment on, which can be moved."""

    shift: list[float] = field(default_factory=lambda: [NOON - time.time()])

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self.shift[0]


async def feed(heard: Callback, reports: Reports | None, rate: float, seconds: float) -> float:
    """Feed for so long, if there is anything; returns the share of one core that this process took meanwhile."""
    begun, taken, given = time.monotonic(), time.process_time(), 0
    while (passed := time.monotonic() - begun) < seconds:
        while reports and given < passed * rate:
            heard(*next(reports))
            given += 1
        await asyncio.sleep(BEAT if reports else seconds)
    return (time.process_time() - taken) / passed


async def live_through(clock: ShiftedClock, heard: Callback, reports: Reports, peers: int) -> None:
    """Let half an epoch pass at once, in which every peer was heard now and then."""
    for _ in range(int(EPOCH / 2 / SPACING)):
        clock.shift[0] += SPACING
        for number in range(peers):
            heard(*next(reports))
            if number % HELPING == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)


async def serve(folder: Path, peers: int, rate: float, seconds: float) -> dict[str, Any]:
    """Run an agent beside so many peers, and measure it in the middle of an epoch; 0: it hears nothing."""
    fed.replace_bleak()
    clock, store = ShiftedClock(), open_store(folder, "file")
    radio = fed.FedRadio(clock)
    running = asyncio.create_task(Service(store, radio, open_curve(), random.SystemRandom(), clock).run())
    await asyncio.sleep(1.0)
    reports = reports_of(peers)
    if reports:
        await live_through(clock, radio.heard, reports, peers)
    await asyncio.sleep(SETTLE)
    share = await feed(radio.heard, reports, rate, seconds)
    running.cancel()
    await asyncio.wait({running})
    found = len(store.encounters())
    store.close()
    return {"share": share, "encounters": found, "dropped": radio.dropped}


async def ignore(peers: int, rate: float, seconds: float) -> dict[str, Any]:
    """Feed the same to nobody."""
    return {"share": await feed(lambda _device, _advertisement: None, reports_of(peers), rate, seconds)}


def reports_of(peers: int) -> Reports | None:
    """What is fed."""
    made = fed.make_peers(peers, random.Random(0))  # noqa: S311 (to be repeatable)
    return fed.reports_of(made) if made else None


def memory() -> dict[str, float]:
    """Resident memory of this process, now and at most, in MB (2^20 bytes). Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return {"megabytes": kilobytes["VmRSS"] / 1024, "peak_megabytes": kilobytes["VmHWM"] / 1024}


def main() -> None:
    """Measure one row and print it as JSON."""
    parser = argparse.ArgumentParser(prog="agent_process", description=__doc__)
    parser.add_argument("--folder", type=Path, help="of a joined agent; without: the callback does nothing")
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--rate", type=float, default=300, help="advertisements a second")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.folder:
        measuring = serve(options.folder, options.peers, options.rate, options.seconds)
    else:
        measuring = ignore(options.peers, options.rate, options.seconds)
    print(json.dumps(asyncio.run(measuring) | memory()))


if __name__ == "__main__":
    main()
