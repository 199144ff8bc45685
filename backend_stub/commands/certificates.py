"""The certificates of a backend's parts: `certificates`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub import settings
from backend_stub.commands.common import AsJson, Folder, say_table, with_authority
from backend_stub.network import certificates, renewal
from backend_stub.operations import running
from protocol import parameters
from protocol.errors import Misuse

if TYPE_CHECKING:
    from backend_stub.authority.service import Authority


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
    listed = with_authority(folder, _listed) if renew else set()
    for name in names:
        if renew:
            renewal.renew(folder / running.AUTHORITY, folder / name, listed)
        left = certificates.days_left(folder / name, settings.read_part(folder / name))
        rows.append({"part": name, "good_for_days": None if left is None else int(left)})
    say_table(rows, as_json)


async def _listed(office: Authority) -> set[str]:
    return parameters.proxy_urls((await office.current()).trusted.parameters)
