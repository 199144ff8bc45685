"""scripts/bench rotation: whether what real BlueZ sends over many epochs links one identifier to the next.

Two virtual machines run the radio at once, one on a Bluetooth 5 controller with extended advertising, one on a
Bluetooth 4.2 controller without. What was on the air, and what each machine told its controller, is searched.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.ble_vm import linkage, trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant
from scripts.ble_vm.guest import Guest
from scripts.ble_vm.image import VmError

if TYPE_CHECKING:
    import argparse

    from scripts.ble_vm.guest import Job

ROOT = Path(__file__).resolve().parents[2]
GUESTS = {"a": Variant.EXTENDED, "b": Variant.LEGACY}
EPOCH = 10.0  # seconds; a round of the four frames takes 7
BOOT = 120.0  # seconds, at most
SLACK = 3.0  # times its length that an epoch may take on a busy machine
UNLIKELY = 0.001  # how rarely chance may be so uneven before it is no chance


@dataclass(frozen=True)
class Row:
    """What one controller sent. first, whole: p-values of `linkage.Orders`."""

    controller: str
    epochs: int
    addresses: int
    packets: int
    rounds: int
    first: float
    whole: float
    violations: list[str]


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("rotation", help="whether what is on the air links identifiers, in two machines")
    parser.add_argument("--epochs", type=int, default=50, help="to watch (default 50), of 10 seconds each")
    parser.add_argument("--trace", type=Path, metavar="FOLDER", help="keep there what was on the air and the wires")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch and print. Returns 1 where anything links two blocks or the order is not random; 70 without machines."""
    notes = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="rotation-") as scratch:
        folder = options.trace or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            blocks = asyncio.run(_watch(folder, options.epochs, notes))
        except VmError as error:
            notes.print(f"bench: {error}", markup=False)
            return 70
        rows = judge(folder, blocks)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _show(Console(width=None if sys.stdout.isatty() else 120), rows)
    return int(any(row.violations for row in rows))


async def _watch(folder: Path, epochs: int, notes: Console) -> dict[str, list[int]]:
    """Let both machines send so many blocks; returns the key ids that each says it sent."""
    async with AsyncExitStack() as stack:
        air = await stack.enter_async_context(Air(trace_dir=folder, seed=1))
        guests = [await stack.enter_async_context(Guest(name, air, variant=one)) for name, one in GUESTS.items()]
        progress = stack.enter_context(Progress(console=notes, transient=True))
        task = progress.add_task("starting two machines", total=epochs)
        command = [sys.executable, "-m", "scripts.ble_vm.device", str(EPOCH)]
        jobs = [await guest.start(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) for guest in guests]
        async with asyncio.timeout(BOOT + SLACK * EPOCH * epochs):
            while (least := min(len(_sent(job)) for job in jobs)) <= epochs:
                progress.update(task, description="epochs watched", completed=max(least - 1, 0))
                if not all(job.running for job in jobs):
                    break
                await asyncio.sleep(1)
        for job in jobs:
            result = await job.stop()
            if result.code:
                raise VmError(f"the radio ended with {result.code}: {result.stderr}")
        return {name: _sent(job) for name, job in zip(GUESTS, jobs, strict=True)}


def _sent(job: Job) -> list[int]:
    return [int(key) for key in re.findall(r"^sent (\d+)$", job.stdout, re.MULTILINE)]


def judge(folder: Path, blocks: dict[str, list[int]]) -> list[Row]:
    """Search the traces in a folder; blocks: the key ids each guest says it sent, in their order."""
    log = trace.sent((folder / "air.jsonl").read_text())
    return [_row(name, variant, log, folder, blocks[name]) for name, variant in GUESTS.items()]


def _row(name: str, variant: Variant, log: list[trace.Sent], folder: Path, blocks: list[int]) -> Row:
    packets = [one for one in log if one.by == name]
    wire = trace.packets((folder / f"{name}.btsnoop").read_bytes())
    found = linkage.violations(packets) + linkage.wire_violations(wire, name, log)
    frames = [] if found else linkage.shown(packets)
    order = linkage.orders(frames)
    if not found and linkage.turns(frames) != blocks:
        found.append("not the blocks that were to be sent, in their order")
    for what, p in (("slices that blocks begin with", order.first), ("orders of slices", order.whole)):
        if p < UNLIKELY:
            found.append(f"the {what} are not random (p = {p:.5f})")
    addresses = len({one.address for one in packets})
    return Row(variant.value, len(blocks), addresses, len(packets), order.rounds, order.first, order.whole, found)


def _show(console: Console, rows: list[Row]) -> None:
    table = Table(title="On the air, by controller", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("controller")
    for heading in ("epochs", "packets", "addresses", "rounds", "p first slice", "p orders", "violations"):
        table.add_column(heading, justify="right")
    for row in rows:
        counts = row.epochs, row.packets, row.addresses, row.rounds
        table.add_row(
            row.controller, *map(str, counts), f"{row.first:.3f}", f"{row.whole:.3f}", str(len(row.violations))
        )
    console.print(table)
    for row in rows:
        for violation in row.violations:
            console.print(f"{row.controller}: {violation}", style="bold red", markup=False)
    if not any(row.violations for row in rows):
        console.print(
            "No address carried two frames, no block came back after the next had begun, no packet held anything but a "
            "frame\n(and Flags, where BlueZ adds them): on the air, and in what each machine ordered of its controller."
        )
    console.print(
        f"p: how likely chance is as uneven, over 20,000 seeded draws; below {UNLIKELY:g} it is taken for no chance."
    )
