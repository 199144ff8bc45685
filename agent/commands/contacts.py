"""The contact list: `spot contacts`."""

from __future__ import annotations

from typing import Annotated

import typer

from agent import account
from agent.commands import views
from agent.commands.desk import Desk, Json, read_day, show


def contacts_command(
    context: typer.Context,
    day: Annotated[str, typer.Option(help="Only this UTC day, such as 2026-11-22.")] = "",
    as_json: Json = False,
) -> None:
    """Show the contact list."""
    desk: Desk = context.obj
    number = read_day(day) if day else None
    with desk.store() as store:
        risk = account.read_trusted(store).parameters.risk
        found = store.encounters(day=number)
    table = views.contact_table(found, risk) if found else "No contacts yet. Is the agent running? See: spot status"
    show(as_json, [views.contact_facts(one, risk) for one in found], table)
