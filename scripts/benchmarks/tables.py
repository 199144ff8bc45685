"""How the figures of a bench are printed for people, and on which machine they were taken."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

notes = Console(stderr=True)


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], *remarks: str) -> None:
    """Print a table, its first column to the left, and remarks below."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for remark in remarks:
        console.print(remark)


def machine() -> dict[str, Any]:
    """What was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "python": platform.python_version(),
    }


def machine_text() -> str:
    """The machine in a line."""
    facts = machine()
    return f"Machine: {facts['processor']}, {facts['cores']} cores, load {facts['load']:.1f}; Python {facts['python']}."
