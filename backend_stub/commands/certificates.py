"""The certificates of a backend's parts: `certificates`."""

from __future__ import annotations

from typing import Annotated

import typer

from backend_stub import settings
from backend_stub.commands.common import AsJson, Folder, say_table
from backend_stub.network import certificates
from backend_stub.operations import running
from protocol.errors import Misuse


def show_certificates(
    folder: Folder,
    renew: Annotated[bool, typer.Option("--renew", help="Make fresh ones, for the keys that there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say for how long the parts' certificates are good, and renew them.

    spot-backend certificates demo --renew

    A running authority renews those beside it 120 days before their end, and running parts take them up by themselves.
    For a proxy elsewhere, admit its request again: spot-backend proxy admit, then proxy accept.
    """
    names = settings.parts(folder)
    if renew and running.AUTHORITY not in names:
        raise Misuse(f"the root's key is with the authority, which is not in {folder}; renew on its machine")
    rows = []
    for name in names:
        if renew:
            certificates.renew(folder / running.AUTHORITY, folder / name)
        left = certificates.days_left(folder / name, settings.read_part(folder / name))
        rows.append({"part": name, "good_for_days": None if left is None else int(left)})
    say_table(rows, as_json)
