"""scripts/bench faults: what is lost when parts are killed, cut off, full or misdated under load."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from protocol.errors import SpotError
from scripts.benchmarks.bed import DATABASES
from scripts.benchmarks.reconciling import PROMISES
from scripts.benchmarks.tables import machine, machine_text, notes, show
from scripts.benchmarks.trial import Result, Trial

if TYPE_CHECKING:
    import argparse

NOTICE = 15.0  # seconds between two lines about progress where nobody sees a bar


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("faults", help="what is lost when parts are killed, cut off, full and misdated")
    parser.add_argument("--database", choices=DATABASES, default="postgresql", help="(default postgresql)")
    parser.add_argument("--submissions", type=int, default=100_000, help="answered in all (default 100000)")
    parser.add_argument("--kills", type=int, default=200, help="of parts, at random points (default 200)")
    parser.add_argument("--agents", type=int, default=30, help="real ones, beside light clients (default 30)")
    parser.add_argument("--minutes", type=float, default=60.0, help="under load at most (default 60)")
    parser.add_argument("--seed", default="1", help="of what is drawn: who meets whom, and what fails when (1)")
    parser.add_argument("--folder", type=Path, help="where all of it lives (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run and print. Returns 1 where a promise is broken."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that disks are unmounted, and parts ended
    with Progress(console=notes) as progress, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        task, said = progress.add_task("starting", total=options.submissions), 0.0

        def told(text: str, answered: int) -> None:
            nonlocal said
            progress.update(task, description=text, completed=min(answered, options.submissions))
            if not notes.is_terminal and time.monotonic() > said + NOTICE:
                said = time.monotonic()
                notes.print(f"{text}, {answered} answered")

        trial = Trial(
            Path(folder),
            options.database,
            options.submissions,
            options.kills,
            options.agents,
            options.seed,
            told,
            minutes=options.minutes,
        )
        try:
            result = asyncio.run(trial.run())
        except SpotError as error:
            notes.print(f"bench: {error.text}")
            return error.exit_code
    if options.json:
        print(json.dumps({"machine": machine(), "seed": options.seed, **result.as_json()}, indent=2))
    else:
        _show(result, options)
    return int(not result.findings.kept)


def _show(result: Result, options: argparse.Namespace) -> None:
    show(
        f"Faults under load on {options.database}, seed {options.seed}",
        ["fault", "times"],
        [(name, str(count)) for name, count in sorted(result.faults.items())],
        *(f"left out: {reason}" for reason in result.left_out),
    )
    show("What was done meanwhile", ["", "count"], [(name, str(count)) for name, count in result.counted.items()])
    show(
        "Promises broken",
        ["promise", "times"],
        [(name, str(result.findings.broken[name])) for name in PROMISES],
        f"In {result.seconds:.0f} s. {machine_text()}",
    )
