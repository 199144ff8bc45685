"""scripts/bench replay: contacts that sensors recorded, lived through again by real agents and a real backend.

Agents are the parts that `spot run` wires up, with sealed stores; the backend's parts are processes that are reached
over HTTP. Only the radio and the time are simulated: whoever was near somebody then is 1 m away, under BlueZ's
conditions, and the clock jumps over what nobody waits for. Proxies fail for hours; some people declare.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.benchmarks.replay import contacts as contact_files
from scripts.benchmarks.replay import truth
from scripts.benchmarks.replay.plan import draw_ill
from scripts.benchmarks.replay.town import replay
from scripts.benchmarks.tables import machine, machine_text, notes, show

if TYPE_CHECKING:
    import argparse

    from scripts.benchmarks.replay.contacts import Contacts
    from scripts.benchmarks.replay.plan import Illness
    from scripts.benchmarks.replay.progress import Progress as Replayed

LOSSES = (0.3, 0.5, 0.7)
REACH = {0.3: 0.99, 0.5: 0.99}  # share of pair-days of 15 minutes or more that both sides hold a record of
AGENT = ("radio", "store", "network")  # what of the processor's time is the agents'
BACKEND = ("authority", "server", "proxies")
ILL_SHARE = 0.1


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    words = "recorded contacts, lived through by real agents and a real backend"
    about = f"{__doc__.partition(': ')[2]} Interrupted, the same command goes on after the last whole day."
    parser = subjects.add_parser("replay", help=words, description=about)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="file, or folder with one: rows of second, person, person; such as those of sociopatterns.org",
    )
    parser.add_argument("--loss", type=float, action="append", help="share of advertisements lost (default .3 .5 .7)")
    parser.add_argument("--days", type=int, help="only the first so many")
    parser.add_argument("--people", type=int, help="only so many, those with the most contact")
    parser.add_argument("--diagnosed", type=int, help="how many declare (default: every tenth)")
    parser.add_argument("--seed", type=int, default=0, help="of losses, outages and diagnoses (default 0)")
    parser.add_argument(
        "--state", type=Path, help="folder to go on from when interrupted (default: in the user's cache)"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew, whatever is there")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and print. Returns 1 where a contact was made up or too many were missed, 2 where there is no data."""
    try:
        contacts = contact_files.read(options.data, options.days, options.people)
    except (OSError, ValueError) as error:
        notes.print(f"The data cannot be read: {error}. Files that can: the contact lists of sociopatterns.org.")
        return 2
    count = max(1, round(len(contacts.people) * ILL_SHARE)) if options.diagnosed is None else options.diagnosed
    ill = draw_ill(contacts, options.seed, count)
    folder = _state(options, contacts, count)
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        rows = asyncio.run(measure(contacts, tuple(options.loss or LOSSES), folder, options.seed, ill))
    except Timeout:
        notes.print("The same replay is being run already; wait for it, or give this one another --state or --seed.")
        return 2
    if options.json:
        print(json.dumps({"machine": machine(), "seed": options.seed, "rows": rows}, indent=2))
    else:
        _show(contacts, ill, rows, folder)
    return int(any(row["fabricated"] or (row["reach"] and row["share"] < row["reach"]) for row in rows))


def _state(options: argparse.Namespace, contacts: Contacts, count: int) -> Path:
    told = (contacts.digest, options.days, options.people, options.seed, count)
    name = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    given: Path | None = options.state
    return (given or platformdirs.user_cache_path("spot-bench") / "replay") / name


async def measure(
    contacts: Contacts, losses: tuple[float, ...], folder: Path, seed: int, ill: list[Illness]
) -> list[dict[str, Any]]:
    """A row for each loss."""
    perfect = truth.Perfect.of(contacts)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows = []
    with Progress(*columns, console=notes) as bars:
        for loss in losses:
            task = bars.add_task(f"{loss:.0%} lost", total=contacts.length + 1)

            def tell(what: str, done: Replayed, task: Any = task, loss: float = loss) -> None:
                bars.update(task, completed=done.days, description=f"{loss:.0%} lost {what}")

            done = await replay(contacts, folder / f"loss-{loss:g}", loss, seed, ill, tell)
            bars.update(task, completed=done.days, description=f"{loss:.0%} lost")
            rows.append(row_of(contacts, perfect, loss, done))
    return rows


def row_of(contacts: Contacts, perfect: truth.Perfect, loss: float, done: Replayed) -> dict[str, Any]:
    """What came of one replay."""
    signed = truth.signed(contacts, perfect, done.ledger)
    warned = truth.warnings(contacts, perfect, done.declared, done.warned)
    agent_days = len(contacts.people) * (len(contacts.days) + 1)
    states = [entry.state for entries in done.ledger.values() for entry in entries.values()]
    return {
        "loss": loss,
        "people": len(contacts.people),
        "days": len(contacts.days),
        "pair_days": signed.long,
        "share": signed.long_signed / signed.long if signed.long else 1.0,
        "reach": REACH.get(loss),
        "missing": signed.missing,
        "pair_epochs": signed.epochs,
        "share_of_epochs": signed.epochs_signed / signed.epochs if signed.epochs else 1.0,
        "states": {state: states.count(state) for state in sorted(set(states))},
        "fabricated": truth.fabricated(contacts, done.ledger, done.declared),
        "declarations": [
            {"person": one.person, "contacts": one.contacts, "problem": one.problem} for one in done.declared
        ],
        "warned": {"both": warned.both, "missed": warned.missed, "false": warned.false, "neither": warned.neither},
        "scores": warned.scores,
        "minutes_to_warning": sorted(round(seconds / 60, 1) for seconds in warned.delays),
        "outages": done.outages,
        "hours_away": done.hours_away,
        "cpu_of_agents_per_day": sum(done.cpu[name] for name in AGENT) / agent_days,
        "cpu_of_backend_per_agent_day": sum(done.cpu[name] for name in BACKEND) / agent_days,
        "cpu": dict(done.cpu),
        "sent_per_agent_day": done.sent / agent_days,
        "received_per_agent_day": done.received / agent_days,
        "connections_per_agent_day": done.connections / agent_days,
        "real_seconds": done.real,
    }


def _show(contacts: Contacts, ill: list[Illness], rows: list[dict[str, Any]], folder: Path) -> None:
    total = len(contacts.days)
    show(
        f"{len(contacts.people)} people, {total} days with contacts, {len(ill)} declare",
        ["lost", "pair-days of 15 min", "signed by both", "pairs' epochs", "signed by both", "made up", "took"],
        [
            [
                f"{row['loss']:.0%}",
                str(row["pair_days"]),
                f"{row['share']:.1%}",
                str(row["pair_epochs"]),
                f"{row['share_of_epochs']:.1%}",
                str(len(row["fabricated"])),
                f"{row['real_seconds'] / 60:.1f} min",
            ]
            for row in rows
        ],
        "Pair-days: two people together for 15 minutes or more of one day, all 20-second rows added up; signed: both "
        "hold the same record of that day. Pairs' epochs: together for more than 60 s of one epoch, first to last. "
        "Made up: records of people who were not near each other then, and matches with somebody who declared nothing.",
    )
    for row in rows:
        if row["missing"] or row["fabricated"]:
            notes.print(f"{row['loss']:.0%}: missing {row['missing']}, made up {row['fabricated']}")
    show(
        "Warnings",
        ["lost", "declared", "to be warned, and are", "and are not", "warned without cause", "rightly not", "after"],
        [
            [
                f"{row['loss']:.0%}",
                str(sum(one["contacts"] > 0 for one in row["declarations"])),
                str(len(row["warned"]["both"])),
                str(len(row["warned"]["missed"])),
                str(len(row["warned"]["false"])),
                str(row["warned"]["neither"]),
                _median(row["minutes_to_warning"]),
            ]
            for row in rows
        ],
        "To be warned: by the parameters, and what sensors recorded before the declaration, taken as heard without a "
        "gap. After: minutes from declaring to the warning, median and most; the authority publishes hourly, agents "
        "look hourly (here from 8 to 20, in steps of five minutes). A contact of the last hour before declaring may "
        "not be signed yet, and is not declared then.",
        *(
            f"{row['loss']:.0%}: {name} {what}, {row['scores'][name]:.1f} weighted minutes where 15 warn"
            for row in rows
            for what, names in (("is not warned", row["warned"]["missed"]), ("is warned", row["warned"]["false"]))
            for name in names
        ),
    )
    show(
        "An agent's day",
        ["lost", "CPU s", "radio", "store", "network", "kB sent", "kB received", "connections", "backend CPU s"],
        [
            [
                f"{row['loss']:.0%}",
                f"{row['cpu_of_agents_per_day']:.2f}",
                *(f"{row['cpu'][name] / (row['people'] * (row['days'] + 1)):.3f}" for name in AGENT),
                f"{row['sent_per_agent_day'] / 1000:.1f}",
                f"{row['received_per_agent_day'] / 1000:.1f}",
                f"{row['connections_per_agent_day']:.0f}",
                f"{row['cpu_of_backend_per_agent_day']:.2f}",
            ]
            for row in rows
        ],
        "Measured, and not in it: what an agent takes that listens and hears nobody, which is most of its day, and "
        "D-Bus (scripts/bench energy tells both); writing every 2 s in place of every 20 s; nights. Backend: its part "
        "for one agent and day. HTTP's headers are counted, TCP and TLS are not.",
        machine_text(),
        f"Kept in {folder}: the same command shows this again, or goes on; --fresh begins anew.",
    )


def _median(minutes: list[float]) -> str:
    return f"{statistics.median(minutes):.0f}, at most {max(minutes):.0f} min" if minutes else ""
