"""What the commands share: their usual arguments, JSON, and the authority's database."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend_stub import settings
from backend_stub.authority import service as authority
from backend_stub.operations import running
from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from backend_stub.authority.service import Authority

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The backend's folder.")]
PartFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The part's own folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

EPOCH = date(1970, 1, 1)
T = TypeVar("T")


def say_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(value))


def say_table(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print rows of one kind as a table with their keys for headings, or as JSON."""
    if as_json:
        say_json(list(rows))
        return
    if not rows:
        typer.echo("none")
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    Console(soft_wrap=True).print(table)


def assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE each; a value that is no JSON is a string."""
    found: dict[str, Any] = {}
    for text in texts:
        target, separator, value = text.partition("=")
        if not separator:
            raise Misuse(f"a parameter is set by NAME=VALUE, such as limits.epoch=60, not {text!r}")
        try:
            found[target] = json.loads(value)
        except (ValueError, RecursionError):
            found[target] = value
    return found


def with_authority(folder: Path, work: Callable[[Authority], Awaitable[T]]) -> T:
    """Do this on the authority's database, whether it runs meanwhile or not."""

    async def opened() -> T:
        settings.parts(folder)
        async with authority.opened(folder / running.AUTHORITY) as office:
            return await work(office)

    return asyncio.run(opened())
