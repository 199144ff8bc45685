"""Command line of scripts/bench: one subcommand a subject."""

from __future__ import annotations

import argparse

from scripts.benchmarks import (
    agent,
    cover,
    energy,
    exposure,
    faults,
    flood,
    load,
    match,
    protocol,
    reception,
    recovery,
    replay,
    rotation,
    scale,
    storage,
)

SUBJECTS = (
    agent,
    cover,
    energy,
    exposure,
    faults,
    flood,
    load,
    match,
    protocol,
    reception,
    recovery,
    replay,
    rotation,
    scale,
    storage,
)


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure this project on this machine.")
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")
    for subject in SUBJECTS:
        subject.add_to(subjects)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


raise SystemExit(main())
