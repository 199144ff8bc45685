"""scripts/bench reception: how often two devices build the same CCM, by loss and by minutes together."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import statistics
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from ble.duty import MAINS
from ble.simulated import AS_BLUEZ, Air
from scripts.benchmarks.simulation import EPOCH, NOON, Clock, Device, on_air, shared
from scripts.benchmarks.tables import notes, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ble.duty import Duty

LOSSES = (0.3, 0.5, 0.7)
MINUTES = 5
MINIMUM = 60.0  # seconds that an encounter must span, as authorities have it unless they set something else
REACH = {0.3: 0.99, 0.5: 0.99}  # share of runs of five minutes; at 70 % it is an aim
# Seconds; what is heard has its own time, so looking seldom changes nothing but the pace, where there are no windows.
TICK = 10.0


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of one meeting.

    met: after each number of minutes, whether both hold the same long enough encounter
    whole, sightings: of both, seconds until the first whole block, and how many
    listened, beats: of the first one, seconds, and of how many two seconds there was something to keep
    """

    met: tuple[bool, ...]
    whole: tuple[float, float]
    sightings: tuple[int, int]
    listened: float
    beats: int


async def meet(
    loss: float,
    seed: int,
    minutes: Sequence[int] = range(1, MINUTES + 1),
    duties: tuple[Duty, Duty] = (MAINS, MAINS),
) -> Run:
    """Two devices 1 m apart for the longest of these minutes, from a random moment of an epoch on."""
    chance = random.Random(f"{loss} {seed}")  # noqa: S311 (to be repeatable)
    begun = NOON + chance.uniform(0, EPOCH)
    clock = Clock(begun)
    tick = 1.0 if any(duty.round for duty in duties) else TICK
    air = Air(clock, dataclasses.replace(AS_BLUEZ, loss=loss, tick=tick), seed=seed)
    one, other = (Device(air, clock, x, duty, chance) for x, duty in enumerate(duties))
    met = []
    async with on_air((one, other)):
        for minute in minutes:
            await clock.run(begun + minute * 60 - clock.now())
            one.note()
            other.note()
            met.append(shared(one, other, MINIMUM) > 0)
    whole = (one.whole_at - begun, other.whole_at - begun)
    return Run(tuple(met), whole, (one.sightings, other.sightings), one.listened, len(one.beats))


async def measure(losses: Sequence[float], runs: int) -> list[dict[str, Any]]:
    """A row for each loss: the share of runs with the same CCM on both sides, by minutes."""
    rows = []
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("meetings", total=len(losses) * runs)
        for loss in losses:
            done = []
            for seed in range(runs):
                done.append(await meet(loss, seed))
                progress.advance(task)
            rows.append(_row(loss, done))
    return rows


def _row(loss: float, runs: Sequence[Run]) -> dict[str, Any]:
    cuts = statistics.quantiles((seconds for run in runs for seconds in run.whole), n=20)
    return {
        "loss": loss,
        "runs": len(runs),
        "share_by_minutes": {
            minute: statistics.fmean(run.met[minute - 1] for run in runs) for minute in range(1, MINUTES + 1)
        },
        "reach": REACH.get(loss),
        "reports_a_second": statistics.fmean(count for run in runs for count in run.sightings) / (MINUTES * 60),
        "whole_block_median_seconds": cuts[9],
        "whole_block_95_percent_seconds": cuts[18],
    }


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("reception", help="meetings under bad reception, on the simulated radio")
    parser.add_argument("--runs", type=int, default=1000, help="for each loss (default 1000)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where the share that is to be reached is not."""
    rows = asyncio.run(measure(LOSSES, options.runs))
    missed = [row for row in rows if row["reach"] and row["share_by_minutes"][MINUTES] < row["reach"]]
    if options.json:
        print(json.dumps({"minimum_seconds": MINIMUM, "epoch_seconds": EPOCH, "rows": rows}, indent=2))
        return int(bool(missed))
    show(
        "Meetings at 1 m after which both sides hold the same CCM, by minutes together",
        [
            "single advertisements lost",
            *(f"{minute} min" for minute in range(1, MINUTES + 1)),
            "block after",
            "95 % by",
            "reports/s",
        ],
        [
            [
                f"{row['loss']:.0%}",
                *(f"{share:.1%}" for share in row["share_by_minutes"].values()),
                f"{row['whole_block_median_seconds']:.1f} s",
                f"{row['whole_block_95_percent_seconds']:.1f} s",
                f"{row['reports_a_second']:.2f}",
            ]
            for row in rows
        ],
        f"{options.runs} seeded runs a row, at a random moment of an epoch of {EPOCH} s. An encounter must span "
        f"{MINIMUM:.0f} s on both sides and within one epoch: in one minute none can, and in two none does that is cut "
        "in half by a change of epochs. Frames and reports come as with BlueZ: a frame is on air for 1.5 s under an "
        "address of its own, and reported once. Block after: until a block was whole, median and 95th percentile.",
        f"At least {REACH[0.3]:.0%} of five minutes at 30 and 50 %: [bold]{'MISSED' if missed else 'reached'}[/]",
    )
    return int(bool(missed))
