"""The commands `spot export` and `spot import`."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import account, moving
from agent.clock import day_text
from agent.commands.desk import Desk, Json, Yes, err, out, show
from agent.commands.views import plain
from agent.kept import State
from protocol.errors import Misuse, StorageError

if TYPE_CHECKING:
    from agent.store import Store

PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the passphrase; /dev/fd/3 for a descriptor. Else it is asked."),
]


def export_command(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A file that is not there yet.", show_default=False)] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go on with this device; only if the file was imported nowhere.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Move to another device: seal everything kept here into FILE, and retire this device.

    1. Stop the agent here: Ctrl-C, or as root: spot service uninstall
    2. spot export FILE, and choose a passphrase
    3. Carry FILE to the new device; there: spot import FILE, then spot run
    4. When the new device is on air, delete FILE, and here: spot leave

    Along go the credential, the contact list, contacts that wait for
    their other side, and exposures: no day is lost. From then on, run,
    sync, declare and exposure refuse to work here, as one person is not
    to be on two devices. If FILE is lost, export again.

    FILE is sealed under the passphrase, which nothing recovers.
    """
    desk: Desk = context.obj
    with desk.store() as store:
        if undo:
            _undo(store, yes)
            return
        if file is None:
            raise Misuse("say which file to write: spot export FILE")
        if file.exists():
            raise Misuse(f"{file} is there already and is not overwritten; choose another name")
        if not (yes or as_json):
            out.print("This device will be retired: silent, and all goes on where the file is imported.")
        if not yes and not typer.confirm("Move?"):
            raise Misuse("nothing was moved")
        passphrase = _passphrase(passphrase_file, "A passphrase for it", confirm=True)
        with err.status("sealing"):
            moving.export(store, file, passphrase, desk.clock.now(), desk.chance.randbytes)
        facts = _facts(store)
    show(
        as_json,
        facts | {"file": str(file)},
        f"Moved into {plain(str(file))}: {facts['contacts']} contacts. This device is retired.",
        "On the new device: spot import FILE; then delete the file, and here: spot leave",
    )


def _undo(store: Store, yes: bool) -> None:
    if not yes and not typer.confirm("Was the file imported nowhere, and is it deleted?"):
        raise Misuse("nothing was changed; this device stays retired")
    moving.undo(store)
    out.print("This device goes on. Next: spot run")


def import_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What spot export wrote on the old device.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Go on with what was moved from another device by spot export.

    Takes the place of spot join: there must be no agent in the data
    folder yet. Everything is sealed here under a new key. Import a file
    once, then delete it: one person is not to be on two devices.
    """
    desk: Desk = context.obj
    moving.check_fresh(desk.folder)
    if not file.is_file():
        raise Misuse(f"there is no file {file}; carry it over from the old device: spot export FILE")
    passphrase = _passphrase(passphrase_file, f"Passphrase of {file}")
    with err.status("opening"):
        store = moving.take_in(file, desk.folder, desk.settings.key, passphrase, desk.chance.randbytes)
    try:
        facts = _facts(store)
    finally:
        store.close()
    show(
        as_json,
        facts | {"data_dir": str(desk.folder)},
        f"Moved here: {facts['contacts']} contacts, {facts['signed']} of them signed. Next: spot run",
        f"Then delete {plain(str(file))}, and on the old device: spot leave",
    )


def _facts(store: Store) -> dict[str, object]:
    kept = store.encounters()
    return {
        "authority": account.read_trusted(store).parameters.authority,
        "contacts": len(kept),
        "signed": sum(one.state is State.SIGNED for one in kept),
        "first_day": day_text(kept[0].day) if kept else None,
        "exposures": len(store.exposures()),
    }


def _passphrase(file: Path | None, question: str, *, confirm: bool = False) -> str:
    """The passphrase in the file, or typed. Raises Misuse, StorageError."""
    if file is None:
        if not sys.stdin.isatty():
            raise Misuse("there is no terminal to ask for the passphrase at; give it with --passphrase-file FILE")
        return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm))
    try:
        mode = file.stat().st_mode
        if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
            raise StorageError(f"others can read {file}; run: chmod 600 {file}")
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{file} cannot be read as a passphrase ({error}); see: spot export --help") from None
