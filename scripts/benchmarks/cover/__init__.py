"""scripts/bench cover: whether who watches a device's network sees when there were contacts, or a declaration.

Real agents and a real backend live through weeks in minutes, over TLS on loopback. What goes over the interface is
captured, and classifiers get sizes and times of each device's day. Mutants show what they see where cover is missing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec
from rich.progress import Progress

from backend_stub.operations.policy import LIMITS
from protocol.encounter import SECONDS_A_DAY
from scripts.benchmarks.cover import capture, telling, town
from scripts.benchmarks.tables import machine, machine_text, notes, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from scripts.benchmarks.cover.capture import Connection
    from scripts.benchmarks.cover.telling import Key
    from scripts.benchmarks.cover.town import Lived, Scene

GOAL = 0.55  # AUC that cover must not be told above
FIRST = 2  # days of the play that are left out: everybody has just joined
LOOKS_A_DAY = 48  # of both chains, over two proxies an hour
ROUNDS = 60
MUTANT_DEVICES, MUTANT_DAYS = 30, 9


def add_to(subjects: Any) -> None:
    """Add this subject to a command line."""
    parser: argparse.ArgumentParser = subjects.add_parser("cover", help=__doc__.partition("\n")[0].partition(": ")[2])
    parser.add_argument("--devices", type=int, default=105, help="devices (105)")
    parser.add_argument("--days", type=int, default=22, help="days of each, the first two not told (22)")
    parser.add_argument("--day", type=float, default=60.0, help="real seconds that a day takes (60)")
    parser.add_argument("--without", choices=("mutants", "waits"), nargs="*", default=[], help="what to leave out")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves: .png, .svg or .pdf")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what was captured in this folder")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Play, capture, tell; 1 where the goal is missed."""
    logging.disable(logging.ERROR)
    scene = town.Scene(devices=options.devices, days=options.days, day=options.day, busy=min(5, options.devices // 8))
    less = replace(scene, devices=min(MUTANT_DEVICES, scene.devices), days=min(MUTANT_DAYS, scene.days), busy=0)
    scenes = {"cover": scene}
    if "mutants" not in options.without:
        scenes["no dummies at all"] = replace(less, submission_gap=0, declaration_gap=0)
        scenes["no dummy declarations"] = replace(less, declaration_gap=0)
        scenes["dummy declarations of another size"] = replace(less, unsized=True)
        scenes["answers as soon as they are known"] = replace(less, unpaced=True)
    facts: dict[str, Any] = {"machine": machine(), "goal": GOAL}
    with Progress(console=notes, transient=True) as shown:
        facts["scenes"] = {name: _scene(shown, name, one, options.keep) for name, one in scenes.items()}
        if "waits" not in options.without:
            facts["waits"] = _waits(shown)
    if options.plot:
        _draw(options.plot, facts)
    _show(facts, as_json=options.json)
    return int(not _met(facts["scenes"]["cover"]))


def _met(facts: dict[str, Any]) -> bool:
    """Whether nothing could be told, and there was enough to tell it from."""
    found = [*facts["told"].values(), {"wait": facts["waits"]}]
    return all(one and all(told.get("auc", 1.0) <= GOAL for told in one.values()) for one in found)


def _scene(shown: Progress, name: str, scene: Scene, keep: Path | None) -> dict[str, Any]:
    task = shown.add_task(name, total=scene.days)
    with tempfile.TemporaryDirectory(prefix="spot-cover-") as folder:
        file = Path(folder) / "packets"
        with capture.capturing(file):
            lived = asyncio.run(town.play(Path(folder), scene, lambda days: shown.update(task, completed=days)))
        connections = capture.read(file)
        if keep:
            shutil.copy(file, keep / f"{name}.packets")
            (keep / f"{name}.lived").write_bytes(msgspec.msgpack.encode((asdict(scene), asdict(lived))))
    shown.update(task, description=f"{name}: learning")
    facts = _told(scene, lived, connections)
    shown.remove_task(task)
    return facts


def _told(scene: Scene, lived: Lived, connections: list[Connection]) -> dict[str, Any]:
    days = telling.by_day(connections, lived.day_at)
    keys = [(device, day) for device in range(scene.busy, scene.devices) for day in range(FIRST, scene.days)]
    start = lived.first_day * SECONDS_A_DAY

    def seconds_of(real: float) -> float:
        return (lived.scale.at(real) - start) % SECONDS_A_DAY

    questions: dict[str, tuple[Collection[Key], Collection[Key]]] = {
        "contacts": (keys, lived.met),
        "declared": (lived.could, lived.declared),
        "left": (lived.left | lived.instead, lived.left),
    }
    rows = telling.features(days, keys, seconds_of)
    told = {
        name: {model: asdict(found) for model, found in telling.tell(rows, keys, among, yes).items()}
        for name, (among, yes) in questions.items()
    }
    return {
        "scene": asdict(scene),
        "device_days": len(keys),
        "connections": len(connections),
        "dummies": lived.dummies,
        "submitted": lived.submitted,
        "signed": lived.signed,
        "failed": lived.failed,
        "answered_reports": lived.accepted,
        "reports_still_checked": lived.checking,
        "levels_of_the_busy": [lived.levels[device] for device in range(scene.busy)],
        "risen_of_others": sum(lived.levels[device] > 0 for device in range(scene.busy, scene.devices)),
        "told": told,
        "waits": _waits_of_reports(lived, connections),
        "bytes": _bytes(connections),
    }


def _waits_of_reports(lived: Lived, connections: list[Connection]) -> dict[str, float]:
    """How far apart the waits for answers to reports are from those to the dummies in the place of others."""
    asked: dict[int, list[Connection]] = defaultdict(list)
    for one in connections:
        if telling.kind_of(one) == "declaration" and one.down:
            asked[one.device].append(one)
    waited: dict[bool, list[float]] = {True: [], False: []}
    for (device, at), report in lived.sent.items():
        found = next((one.waited for one in asked[device] if one.at >= at), None)
        if found is not None:
            waited[report].append(found)
    return telling.apart(waited[False], waited[True])


def _bytes(connections: list[Connection]) -> dict[str, Any]:
    """What a connection of each kind carries, and what that makes a day by the default parameters. Payload of TCP."""
    each: dict[str, tuple[float, float]] = {}
    for kind in ("look", "submission", "declaration"):
        some = [one for one in connections if telling.kind_of(one) == kind and one.down]
        each[kind] = (fmean(one.up for one in some), fmean(one.down for one in some)) if some else (0.0, 0.0)
    often = {
        "look": LOOKS_A_DAY,
        "submission": SECONDS_A_DAY / LIMITS.submission_gap,
        "declaration": SECONDS_A_DAY / LIMITS.declaration_gap,
    }
    return {
        "connection": {kind: {"up": round(up), "down": round(down)} for kind, (up, down) in each.items()},
        "day": {
            kind: {"connections": often[kind], "up": round(often[kind] * up), "down": round(often[kind] * down)}
            for kind, (up, down) in each.items()
        },
    }


def _waits(shown: Progress) -> dict[str, Any]:
    """How far apart the waits for answers of each kind are, one submission at a time."""
    facts = {}
    for name, unpaced in (("paced", False), ("unpaced", True)):
        task = shown.add_task(f"waits, {name}", total=None)
        with tempfile.TemporaryDirectory(prefix="spot-cover-") as folder:
            file = Path(folder) / "packets"
            with capture.capturing(file):
                kinds = asyncio.run(town.one_by_one(Path(folder), ROUNDS, unpaced=unpaced))
            waited = [one.waited for one in capture.read(file) if one.device == town.WATCHED]
        by_kind = {
            kind: [wait for wait, found in zip(waited, kinds, strict=False) if found == kind]
            for kind in ("pending", "signed", "dummy")
        }
        facts[name] = {
            "milliseconds": {kind: round(1000 * fmean(found), 1) for kind, found in by_kind.items() if found},
            "signed_against_pending": telling.apart(by_kind["pending"], by_kind["signed"]),
            "dummy_against_pending": telling.apart(by_kind["pending"], by_kind["dummy"]),
            "each": len(by_kind["signed"]),
        }
        shown.remove_task(task)
    return facts


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    rows = []
    names = {"contacts": "a day with contacts", "declared": "a day of declaring", "left": "a report left, not a dummy"}
    for scene, one in facts["scenes"].items():
        for question, models in one["told"].items():
            rows += [
                (
                    scene,
                    names[question],
                    model,
                    f"{told['auc']:.3f}",
                    f"{told['low']:.3f} to {told['high']:.3f}",
                    f"{told['yes']} of {told['yes'] + told['no']}",
                )
                for model, told in models.items()
            ]
        if waits := one["waits"]:
            rows.append((scene, names["left"], "its wait", f"{waits['auc']:.3f}", f"KS p {waits['p']:.2g}", ""))
    show("What can be told of a device's day", ("", "question", "by", "AUC", "95 %", "such days"), rows)
    cover = facts["scenes"]["cover"]
    each, day = cover["bytes"]["connection"], cover["bytes"]["day"]
    show(
        "What it costs a device (payload of TCP, TLS included)",
        ("", "up, bytes", "down, bytes", "a day", "up a day, kB", "down a day, kB"),
        [
            (
                kind,
                str(each[kind]["up"]),
                str(each[kind]["down"]),
                f"{day[kind]['connections']:g}",
                f"{day[kind]['up'] / 1000:.0f}",
                f"{day[kind]['down'] / 1000:.0f}",
            )
            for kind in each
        ],
        f"{cover['device_days']} device-days, {cover['connections']} connections; {cover['submitted']} real submissions"
        f", {cover['signed']} signed, {cover['dummies']} dummies of both kinds, {cover['failed']} failed; "
        f"{cover['answered_reports']} reports answered, {cover['reports_still_checked']} times later than at first.",
        f"Levels of the {len(cover['levels_of_the_busy'])} busy devices, which are left out above: "
        f"{cover['levels_of_the_busy']}; {cover['risen_of_others']} of the others rose.",
    )
    for name, waits in facts.get("waits", {}).items():
        show(
            f"Waits for an answer, one at a time, {name}",
            ("", "AUC", "Kolmogorov-Smirnov p"),
            [
                (question.replace("_", " "), f"{waits[question]['auc']:.3f}", f"{waits[question]['p']:.2g}")
                for question in ("signed_against_pending", "dummy_against_pending")
            ],
            f"Mean wait, ms: {waits['milliseconds']}; {waits['each']} of each.",
        )
    notes.print(machine_text())


def _draw(file: Path, facts: dict[str, Any]) -> None:
    """The AUCs as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    lines = [
        (f"{scene}: {question}, {model}", told)
        for scene, one in facts["scenes"].items()
        for question, models in one["told"].items()
        for model, told in models.items()
    ]
    for place, (_, told) in enumerate(reversed(lines)):
        axes.plot([told["low"], told["high"]], [place, place], color="grey")
        axes.plot([told["auc"]], [place], "o", color="black", markersize=4)
    axes.set_yticks(range(len(lines)), [name for name, _ in reversed(lines)], fontsize=6)
    axes.axvline(0.5, color="grey", linewidth=0.5)
    axes.axvline(GOAL, color="red", linewidth=0.5)
    axes.set_xlabel("AUC")
    figure.savefig(file)
