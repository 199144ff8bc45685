"""What the authority fixes for everybody: `parameters show`, `parameters set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from backend_stub.authority import chains
from backend_stub.commands.common import AsJson, Folder, assignments, say_json, with_authority
from backend_stub.operations import policy

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.authority.service import Authority
    from backend_stub.operations.policy import Policy
    from protocol.parameters import Trusted


def show_parameters(folder: Folder) -> None:
    """Say, in JSON, what can be set."""

    async def work(opened: Authority) -> Policy:
        return policy.policy_of((await opened.current()).trusted.parameters)

    say_json(msgspec.to_builtins(with_authority(folder, work)))


def set_parameters(
    folder: Folder,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Lists as JSON.")],
    as_json: AsJson = False,
) -> None:
    """Sign and append new parameters, which agents, server and proxies then follow.

    spot-backend parameters set demo risk.warn_at=10 'risk.infectiousness=[0.5,1.0]'
    spot-backend parameters set demo risk=cwa-v2     (or cwa-v1, swisscovid, nhs, spot: what others published)
    """
    changes = assignments(values)

    async def work(opened: Authority) -> int:
        def change(connection: AsyncConnection) -> Awaitable[Trusted]:
            return chains.change(opened, connection, lambda before: policy.with_changes(before, changes))

        return (await opened.database.run(change)).head.number

    number = with_authority(folder, work)
    if as_json:
        say_json({"parameters": number})
    else:
        typer.echo(f"parameters number {number} are made")
