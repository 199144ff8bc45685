"""scripts/bench agent: what one running agent takes of the processor and of memory, by how many peers it hears.

Each row is a process of its own that runs the whole service on a joined store. Advertisements are fed to it where bleak
would report them; beside it, the same are fed to a callback that does nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from protocol.curve import open_curve
from scripts.benchmarks import joined
from scripts.benchmarks.tables import machine, machine_text, notes, show
from scripts.benchmarks.world import build

if TYPE_CHECKING:
    import argparse

    from scripts.benchmarks.world import World

PEERS = (0, 10, 100, 1000)
RATE = 300  # advertisements a second
SHARE, MEGABYTES, AIM_PEERS = 0.05, 80, 100  # the aim


def measure(seconds: float) -> list[dict[str, Any]]:
    """A row for each number of peers, and for the callback that does nothing."""
    rows = []
    with Progress(console=notes, transient=True) as progress, tempfile.TemporaryDirectory() as name:
        task = progress.add_task("running agents", total=len(PEERS) + 1)
        world = build(open_curve(), 0)
        for peers in PEERS:
            folder = Path(name) / str(peers)
            joined.join(folder, world).close()
            rows.append({"what": "agent", "peers": peers} | _row(peers, seconds, "--folder", str(folder)))
            progress.advance(task)
        rows.append({"what": "empty callback", "peers": AIM_PEERS} | _row(AIM_PEERS, seconds))
    return rows


def measure_idle(world: World, folder: Path, seconds: float) -> float:
    """The share of one core that an agent takes that hears nothing."""
    joined.join(folder, world).close()
    return float(_row(0, seconds, "--folder", str(folder))["share"])


def _row(peers: int, seconds: float, *more: str) -> dict[str, Any]:
    words = ["--peers", str(peers), "--rate", str(RATE), "--seconds", str(seconds), *more]
    command = [sys.executable, "-m", "scripts.benchmarks.agent_process", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("agent", help="processor and memory of one agent, by the peers it hears")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured for each row (default 20)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where the aim is missed."""
    rows = measure(options.seconds)
    aimed = next(row for row in rows if row["peers"] == AIM_PEERS and row["what"] == "agent")
    met = aimed["share"] <= SHARE and aimed["megabytes"] <= MEGABYTES
    if options.json:
        print(json.dumps({"rate": RATE, "machine": machine(), "rows": rows, "met": met}, indent=2))
        return int(not met)
    show(
        f"One agent at {RATE} advertisements a second",
        ["what", "peers", "of one core", "resident MB", "at most MB", "encounters", "dropped"],
        [
            [
                row["what"] if row["peers"] else "agent that hears nothing",
                str(row["peers"]),
                f"{row['share']:.2%}",
                f"{row['megabytes']:.0f}",
                f"{row['peak_megabytes']:.0f}",
                str(row.get("encounters", "")),
                str(row.get("dropped", "")),
            ]
            for row in rows
        ],
        "Processor time of a process of its own, store and idle work included, in the middle of an epoch in which "
        "every peer was heard all the time. What bleak and D-Bus take before their callback is not in it: see "
        "scripts/bench energy.",
        f"At most {SHARE:.0%} and {MEGABYTES} MB at {AIM_PEERS} peers: [bold]{'met' if met else 'MISSED'}[/]",
        machine_text(),
    )
    return int(not met)
