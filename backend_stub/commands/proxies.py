"""Who is a proxy: `proxy remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub import groups
from backend_stub.commands.common import AsJson, Folder, say_json, with_authority

if TYPE_CHECKING:
    from backend_stub.authority import Authority


def remove_proxy(
    folder: Folder, name: Annotated[str, typer.Argument(help="Such as group-1-1.")], as_json: AsJson = False
) -> None:
    """Remove a proxy from its group: agents stop using it, and nothing that it signed can be declared any more.

    spot-backend proxy remove demo group-1-1
    """

    async def work(opened: Authority) -> int:
        return (await groups.remove(opened, name)).head.number

    number = with_authority(folder, work)
    if as_json:
        say_json({"removed": name, "parameters": number})
    else:
        typer.echo(f"{name} is removed; parameters number {number} are made")
