"""How a backend is doing: `status`."""

from __future__ import annotations

import asyncio

import typer

from backend_stub import status
from backend_stub.commands.common import AsJson, Folder, say_json


def show_status(folder: Folder, as_json: AsJson = False) -> None:
    """Say which parts answer, and how much there is of everything."""
    found = asyncio.run(status.status(folder))
    if as_json:
        say_json(found)
        return
    for part, figures in found.items():
        typer.echo(part)
        for figure, value in figures.items():
            typer.echo(f"  {figure.replace('_', ' '):28}{value}")
