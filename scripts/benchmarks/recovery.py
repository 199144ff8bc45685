"""scripts/bench recovery: what goes wrong with Bluetooth on Linux, and how soon a device notices and mends it.

Two virtual machines hear each other, one on a Bluetooth 5 controller, one on a Bluetooth 4.2 one. Each suffers every
fault in turn; then one of them runs the agent itself, whose bluetoothd is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.progress import Progress

from backend_stub.operations.policy import LIMITS
from protocol.curve import open_curve
from scripts.benchmarks import joined
from scripts.benchmarks.tables import machine, machine_text, notes, show
from scripts.benchmarks.world import build
from scripts.ble_vm import faults, linkage, trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant
from scripts.ble_vm.guest import SHARE_IN_GUEST, Guest
from scripts.ble_vm.image import VmError

if TYPE_CHECKING:
    import argparse

    from scripts.ble_vm.faults import Mending
    from scripts.ble_vm.guest import Job

ROOT = Path(__file__).resolve().parents[2]
SPOT = str(Path(sys.executable).with_name("spot"))
GUESTS = {"a": Variant.EXTENDED, "b": Variant.LEGACY}
DEVICE = [sys.executable, "-m", "scripts.ble_vm.device", "3600"]
FAULTS = (
    faults.KILLED,
    faults.STOPPED,
    faults.SWITCHED,
    faults.UNPLUGGED,
    faults.BUS,
    faults.OUTBID,
    faults.DEAFENED,
)
# Seconds until a fault must be mended; silence can mean being alone, so it is waited for.
AIM, AIM_OF_SILENCE = 60.0, 150.0
PATIENCE = 120.0  # seconds; the guests are emulated, and this machine may be busy


@dataclass(frozen=True)
class Row:
    """One fault on one controller. encounters: how many the device counted until then: 1 if it was never broken off."""

    controller: str
    mending: Mending
    encounters: int

    @property
    def met(self) -> bool:
        """Whether it was mended in time, and the encounter went on."""
        silence = self.mending.fault == faults.DEAFENED.name
        return self.mending.mended <= (AIM_OF_SILENCE if silence else AIM) and self.encounters == 1

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"controller": self.controller, **asdict(self.mending), "encounters": self.encounters, "met": self.met}


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("recovery", help="how soon faults of Bluetooth are mended, in two virtual machines")
    parser.add_argument("--lasts", type=float, default=10.0, help="seconds that a fault lasts (default 10)")
    parser.add_argument("--trace", type=Path, metavar="FOLDER", help="keep there what was on the air and the wires")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where a fault was mended late or an address tells too much; 70 without machines."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as scratch:
        folder = options.trace or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            rows, agent = asyncio.run(_measure(folder, options.lasts))
        except VmError as error:
            notes.print(f"bench: {error}", markup=False)
            return 70
        found = _violations(folder)
    if options.json:
        content = {"machine": machine(), "rows": [row.as_json() for row in rows], "agent": agent, "violations": found}
        print(json.dumps(content, indent=2))
    else:
        _show(rows, agent, found)
    return int(bool(found) or not agent["met"] or not all(row.met for row in rows))


async def _measure(folder: Path, lasts: float) -> tuple[list[Row], dict[str, Any]]:
    async with AsyncExitStack() as stack:
        air = await stack.enter_async_context(Air(trace_dir=folder, seed=1))
        guests = {name: await stack.enter_async_context(Guest(name, air, variant=one)) for name, one in GUESTS.items()}
        progress = stack.enter_context(Progress(console=notes, transient=True))
        task = progress.add_task("starting two machines", total=len(FAULTS) * len(GUESTS) + 1)
        jobs = {name: await _start_device(guest) for name, guest in guests.items()}
        for job in jobs.values():
            await job.printed("encounter 1 ", within=PATIENCE)
        rows = []
        for name, guest in guests.items():
            other = jobs["b" if name == "a" else "a"]
            for fault in FAULTS:
                progress.update(task, description=f"{fault.name} ({GUESTS[name].value})")
                mending = await faults.watch_mending(fault, guest, jobs[name], other, air, lasts=lasts)
                rows.append(Row(GUESTS[name].value, mending, _encounters(jobs[name])))
                progress.advance(task)
        await jobs["a"].stop()
        progress.update(task, description="bluetoothd killed under spot run")
        return rows, await _agent(guests["a"], air, lasts)


async def _start_device(guest: Guest) -> Job:
    return await guest.start([*DEVICE, "encounters"], cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def _encounters(job: Job) -> int:
    return len({line.split()[1] for line in job.stdout.splitlines() if line.startswith("encounter ")})


async def _agent(guest: Guest, air: Air, lasts: float) -> dict[str, Any]:
    """Kill the bluetoothd under `spot run`; return what `spot status` and `spot contacts` say before and after."""
    # An epoch of a day, so that none ends meanwhile.
    limits = msgspec.structs.replace(LIMITS, epoch=86400)
    await asyncio.to_thread(lambda: joined.join(guest.share / "agent", build(open_curve(), 0), limits=limits).close())
    folder = "/tmp/agent"  # noqa: S108 - the guest's own
    await guest.run(["cp", "-r", str(SHARE_IN_GUEST / "agent"), folder])

    async def spot(command: str) -> Any:
        result = await guest.run([SPOT, "--data-dir", folder, command, "--json"], env={"SPOT_KEY": "file"})
        if result.code:
            raise VmError(f"spot {command} ended with {result.code}: {result.stderr}")
        return json.loads(result.stdout)

    async def until(what: str, wanted: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not wanted(said := await spot(what)):
                pass
        return said

    job = await guest.start([SPOT, "--data-dir", folder, "run"], env={"SPOT_KEY": "file"})
    try:
        before = await until("contacts", lambda contacts: contacts and contacts[0]["minutes"] > 0)
        await faults.KILLED.bring_about(guest, air)
        await asyncio.sleep(lasts)
        during = await until("status", lambda status: status["radio"]["deaf_since"] and status["radio"]["mute_since"])
        await faults.KILLED.take_away(guest)
        after = await until("status", lambda status: status["on_air"])
        contacts = await until("contacts", lambda contacts: contacts[0]["minutes"] > before[0]["minutes"])
    finally:
        job.signal("TERM")
    result = await job.wait(PATIENCE)
    return {
        "during": during["radio"],
        "after": after["radio"],
        "contacts": len(contacts),
        "minutes": [before[0]["minutes"], contacts[0]["minutes"]],
        "met": len(contacts) == 1 and result.code == 0 and bool(after["radio"]["last_trouble"]),
    }


def _violations(folder: Path) -> list[str]:
    """What the traces hold that links identifiers, faults or not."""
    log = trace.sent((folder / "air.jsonl").read_text())
    found = []
    for name in GUESTS:
        found += linkage.violations([one for one in log if one.by == name])
        found += linkage.wire_violations(trace.packets((folder / f"{name}.btsnoop").read_bytes()), name, log)
    return found


def _show(rows: list[Row], agent: dict[str, Any], found: list[str]) -> None:
    seconds = (
        "Seconds: deaf and mute since the fault began, until the device said so; mended since its cause was gone, until"
        " it heard, was heard and said that all is well. Nothing but 90 s of silence tells of a scan that was stopped "
        "behind the kernel's back."
    )
    before, after = agent["minutes"]
    agent_text = (
        "spot run, bluetoothd killed: status told that it was deaf and mute, then what had been; "
        f"{agent['contacts']} encounter, of {before} minutes before and {after} after."
    )
    nothing = "no address with two frames, no block that came back, frames only."
    on_air = f"On the air, and in what each machine ordered of its controller: {'; '.join(found) or nothing}"
    lines = [
        (
            row.mending.fault,
            row.controller,
            *("–" if one is None else f"{one:.1f}" for one in (row.mending.deaf, row.mending.mute)),
            f"{row.mending.mended:.1f}",
            str(row.encounters),
            "met" if row.met else "MISSED",
        )
        for row in rows
    ]
    headings = ("fault", "controller", "deaf", "mute", "mended", "encounters", f"≤ {AIM:g} s")
    show("From fault to mended", headings, lines, seconds, agent_text, on_air, machine_text())
