"""Command line of scripts/fuzz."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from scripts.benchmarks import tables
from scripts.fuzzing import campaign, corpus, keeping, targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.fuzzing.campaign import Outcome

SECONDS = 600
QUIET = 30.0  # seconds between two lines where nobody watches


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Feed this project's parsers with bytes that libFuzzer makes up. Alone: names the targets. "
        "Exit code 1 where anything was found.",
    )
    parser.add_argument("target", nargs="?", choices=[*targets.NAMES, "all"], help="what to fuzz")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default %(default)s)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="try this one input only, as after a find")
    parser.add_argument("--keep", action="store_true", help="put what was found into tests/corpora, the fewest inputs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.target is None:
        return _name_all()
    names = targets.NAMES if options.target == "all" else (options.target,)
    if options.input is not None:
        return _try(names, options.input)
    outcomes = [_fuzz(name, options.seconds, options.jobs) for name in names]
    if options.keep:
        for one in outcomes:
            if one.is_good:
                keeping.keep(one.target)
    _print(outcomes, as_json=options.json)
    return 0 if all(one.is_good for one in outcomes) else 1


def _name_all() -> int:
    rows = []
    for name in targets.NAMES:
        found = corpus.kept(name)
        size = sum(path.stat().st_size for path in found)
        rows.append((name, targets.load(name).about, f"{len(found)}", f"{size / 1000:.1f} kB"))
    headings = ("target", "what strangers send", "inputs kept", "size")
    tables.show("Targets of scripts/fuzz", headings, rows, "scripts/fuzz TARGET, or all; --help for more.")
    return 0


def _try(names: Sequence[str], path: Path) -> int:
    if len(names) != 1:
        raise SystemExit("an input is tried on one target: scripts/fuzz TARGET --input FILE")
    with targets.load(names[0]).ready() as check:
        check(path.read_bytes())  # whatever is wrong is shown by its traceback
    print(f"{path}: nothing is wrong with what {names[0]} makes of it")
    return 0


def _fuzz(name: str, seconds: int, jobs: int) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=tables.notes, disable=not tables.notes.is_terminal) as progress:
        bar = progress.add_task(f"fuzzing {name}", total=seconds, said="")
        last = time.monotonic()

        def told(now: Outcome) -> None:
            nonlocal last
            said = f"{now.executions:,} executions, cov {now.edges}"
            progress.update(bar, completed=min(now.seconds, seconds), said=said)
            if progress.disable and time.monotonic() - last > QUIET:
                last = time.monotonic()
                print(f"{name}: {now.seconds:.0f} of {seconds} s, {said}", file=sys.stderr, flush=True)

        return campaign.fuzz(name, seconds, jobs, told)


def _print(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        made = {"machine": tables.machine(), "targets": [dataclasses.asdict(one) for one in outcomes]}
        print(json.dumps(made, indent=2))
    else:
        headings = (
            "target", "executions", "a second", "cov", "lines", "branches", "inputs", "new", "crashes", "seconds",
        )  # fmt: skip
        remarks = (
            "cov: edges of all rooms that the target imports; lines, branches: of the modules under fuzz, reached by",
            "the whole corpus; inputs: of the corpus, summed up; new: of these, found now.",
            tables.machine_text(),
        )
        tables.show("Fuzzing", headings, [_row(one) for one in outcomes], *remarks)
    for one in outcomes:
        if one.said:
            print(one.said, file=sys.stderr)
        for path in one.crashes:
            print(f"{one.target}: {path}\n    scripts/fuzz {one.target} --input {shlex.quote(path)}", file=sys.stderr)


def _row(one: Outcome) -> tuple[str, ...]:
    return (
        one.target,
        f"{one.executions:,}",
        f"{one.executions / max(one.seconds, 1):,.0f}",
        str(one.edges),
        *(f"{covered} of {all_}" for covered, all_ in (one.lines, one.branches)),
        str(one.inputs),
        str(one.new),
        str(len(one.crashes)),
        f"{one.seconds:.0f}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
