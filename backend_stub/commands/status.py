"""How a backend is doing: `status`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend_stub.commands.common import EPOCH, AsJson, Folder, say_json
from backend_stub.operations import status


def show_status(folder: Folder, as_json: AsJson = False) -> None:
    """Say which parts answer, and how much there is of everything."""
    found = asyncio.run(status.status(folder))
    if as_json:
        say_json(found)
        return
    console = Console(soft_wrap=True)
    for part, figures in found.items():
        table = Table(title=part, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(min_width=28)
        ages = figures.pop("key_ages", [])
        for figure, value in figures.items():
            table.add_row(f"  {figure.replace('_', ' ')}", Text(_text(figure, value)))
        for key in ages:
            until = "" if key["until_day"] is None else f", until {EPOCH + timedelta(key['until_day'])}"
            table.add_row(f"  key {key['key']}", Text(f"{key['days']} days old{until}"))
        console.print(table)


def _text(figure: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if figure == "valid_until":
        return datetime.fromtimestamp(float(str(value)), UTC).strftime("%Y-%m-%d %H:%M UTC")
    return str(value)
