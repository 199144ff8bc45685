"""Keeping a copy of everything, and bringing it back: `backup`, `restore`."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from backend_stub.authority import service as authority
from backend_stub.commands.common import AsJson, Folder, say_json
from backend_stub.keyring import passphrases
from backend_stub.operations import backup as writing
from backend_stub.operations import restoring
from backend_stub.operations.restoring import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backend_stub.operations.restoring import Restored

PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the backup's passphrase; /dev/fd/3 for a descriptor. Else it is asked."),
]


def backup(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; it must not be there yet.")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write all parts of a folder, with keys, settings and tables, into one file sealed under a passphrase.

    The parts may run meanwhile. Keys that have a passphrase of their own keep it inside. The file is in the age format:
    age -d FILE | tar t. Make one after each change of keys or proxies: those made later are not in it.

    spot-backend backup demo demo-2026-11-22.age
    """
    passphrase = passphrases.new(passphrase_file, str(file))
    with _bar(f"backing up {folder}") as progress:
        made = asyncio.run(writing.write(folder, file, passphrase, time.time(), progress))
    if as_json:
        say_json({"file": str(file), "parts": made.parts, "bytes": file.stat().st_size})
    else:
        typer.echo(f"{file} has {', '.join(made.parts)}: {file.stat().st_size:,} bytes")
        typer.echo("Keep it and its passphrase in two places; nothing recovers the passphrase.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; empty, or not there yet.")],
    links_from: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A proxy or mirror that may have newer links; give all there are, once each."),
    ] = None,
    nothing_newer: Annotated[
        bool, typer.Option("--nothing-newer", help="I know that the authority signed nothing after this backup.")
    ] = False,
    keep_codes: Annotated[
        bool, typer.Option("--keep-codes", help="Leave unused report codes and invitations usable.")
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The PostgreSQL to restore into, '' for SQLite; else as it was."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back into an empty folder; everything is checked before.

    The authority must not sign a second link of a number that the world has seen: its agents would take it for an
    attack. So what it signed after the backup is fetched from proxies, which keep what they handed on also while it is
    away. Report codes and invitations that were unused are withdrawn, as they may have been used since. What was
    declared after the backup and not yet published is lost: ask those people to declare again. What was submitted,
    agents ask again for. The old backend must never run again.

    spot-backend restore demo-2026-11-22.age demo --links-from http://192.168.1.11:8702
    """
    choice = Choice(links_from or (), nothing_newer=nothing_newer, keep_codes=keep_codes, database=database)
    passphrase = passphrases.known(passphrase_file, str(file))
    with _bar(f"restoring {folder}") as progress:
        done = asyncio.run(restoring.restore(file, folder, passphrase, choice, progress=progress))
    if as_json:
        say_json({name: getattr(done, name) for name in done.__slots__})
    else:
        typer.echo("\n".join(_said(done, folder)))


def _said(done: Restored, folder: Path) -> Iterator[str]:
    made = datetime.fromtimestamp(done.made_at, UTC)
    yield f"restored {', '.join(done.parts)} of {made:%Y-%m-%d %H:%M:%S} UTC, with {sum(done.rows.values()):,} rows"
    for text, value in (
        ("links signed after the backup, fetched", done.links),
        ("codes and invitations withdrawn; hand out new ones", done.withdrawn),
    ):
        if value:
            yield f"  {value} {text}"
    if done.removed:
        yield f"  proxies removed since: {', '.join(done.removed)}"
    if done.lost:
        yield f"  KEYS CHANGED AFTER THE BACKUP, not in it: {', '.join(done.lost)}; change them again before `up`"
    if authority.FOLDER in done.parts:
        yield "  memberships that were ended after the backup are not any more; end them again: spot-backend end"
        yield "  who joined after the backup goes on until that credential's last day, and then joins again"
    if done.sealed:
        yield "  its keys are sealed under the passphrase that they had"
    yield f"Next: spot-backend up {folder}. The backend that the backup was made of must never run again."


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, and else nothing."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, every: bar.update(task, completed=done, total=every)
