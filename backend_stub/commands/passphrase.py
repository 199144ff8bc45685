"""Sealing the keys at rest: `passphrase`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from backend_stub import settings
from backend_stub.commands.common import AsJson, say_json
from backend_stub.keyring import passphrases, sealing
from backend_stub.operations import status
from protocol.errors import Busy, Misuse

Anywhere = Annotated[Path, typer.Argument(metavar="DIR", help="The backend's folder, or a part's own.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the new passphrase; /dev/fd/3 for a file descriptor. Else it is asked."),
]


def passphrase(
    folder: Anywhere,
    passphrase_file: PassphraseFile = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Keep the keys plain, as only their owner can read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Seal the keys under a passphrase, change it, or remove it.

    From then on a part asks for it when it starts. Instead of being typed it can come as the systemd credential
    spot-backend-passphrase, or in the file that SPOT_BACKEND_PASSPHRASE_FILE names: never on a command line or in the
    environment itself, where other processes see it. It cannot be recovered.

    spot-backend passphrase demo
    """
    if remove and passphrase_file:
        raise Misuse("--remove takes no new passphrase; leave out --passphrase-file")
    parts = _parts(folder)
    sealing.unlock_all(parts)
    if remove:
        for part in parts:
            sealing.unseal_all(part)
    else:
        asyncio.run(_check_stopped([part for part in parts if not sealing.has_lock(part)]))
        fresh = passphrases.new(passphrase_file, str(folder))
        for part in parts:
            sealing.seal_all(part, fresh)
    if as_json:
        say_json({"sealed": not remove, "parts": [part.name for part in parts]})
    elif remove:
        typer.echo(f"the keys in {folder} are plain now, and readable by their owner only")
    else:
        typer.echo(f"the keys in {folder} are sealed; keep the passphrase, nothing recovers it")
        typer.echo("What was plain before may still be found on the disk itself, and in earlier backups.")


def _parts(folder: Path) -> list[Path]:
    if (folder / settings.FILE).exists():
        return [folder]
    return [folder / name for name in settings.parts(folder)]


async def _check_stopped(parts: list[Path]) -> None:
    """A part that runs with plain keys could not read them any more."""
    for part in parts:
        told = settings.read_part(part)
        if await status.answers(told.host, told.port):
            raise Busy(f"{part.name} runs; stop it, set the passphrase, and start it again")
