"""What the authority hands to people: invitations and report codes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub import join, report
from backend_stub.clock import today
from backend_stub.commands.common import EPOCH, AsJson, Folder, say_json, with_authority
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Misuse

if TYPE_CHECKING:
    from backend_stub.authority import Authority


def invite(
    folder: Folder,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many, one a person.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make invitations: each lets one person join, once.

    spot-backend invite demo --count 3
    """

    async def work(opened: Authority) -> list[str]:
        return await join.invite(opened, count)

    fresh = with_authority(folder, work)
    if as_json:
        say_json({"invitations": fresh})
    else:
        typer.echo("\n".join(fresh))


def code(
    folder: Folder,
    onset: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The day when symptoms began.")
    ],
    valid_days: Annotated[int, typer.Option(min=1, max=30, help="How many days it can be used.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Make a report code for one diagnosed person.

    spot-backend code demo --onset 2026-11-20
    """
    day = (onset.date() - EPOCH).days

    async def work(opened: Authority) -> str:
        if day > today(opened.clock):
            raise Misuse(f"symptoms cannot begin after today, {EPOCH + timedelta(today(opened.clock))}; check the day")
        return await report.make_code(opened, day, valid_days * SECONDS_A_DAY)

    fresh = with_authority(folder, work)
    if as_json:
        say_json({"code": fresh, "onset": day})
    else:
        typer.echo(fresh)
