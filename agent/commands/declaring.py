"""Declaring an infection: `spot declare`."""

from __future__ import annotations

from typing import Annotated

import typer

from agent import account, report
from agent.clock import day_text
from agent.commands import views
from agent.commands.desk import Desk, Json, Yes, err, finish, out, read_day, show
from agent.store import Store
from agent.sync import Sync
from protocol.errors import Misuse


def declare_command(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="The report code; asked for if not given.")] = "",
    days: Annotated[str, typer.Option(help="Only these UTC days, such as 2026-11-20,2026-11-21.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Declare an infection: send the signed contacts of days you choose to the authority.

    Shows first what would leave the device. Running it again with the same code after a failure is safe.
    """
    desk: Desk = context.obj
    curve = desk.curve()
    code = code or typer.prompt("Report code")
    with desk.store() as store:
        account.check_not_moved(store)
        if desk.clock.now() > account.read_trusted(store).parameters.valid_until:
            with err.status("asking the authority for its newest parameters"):
                finish(Sync(curve, desk.chance, store, desk.clock).step(refresh=True))
        worker = report.Reporter(curve, desk.chance, store, desk.clock)
        stored = worker.outstanding(code)
        if stored is None:
            chosen = _choose_days(store, days, yes, as_json)
            with err.status("proving that these contacts are yours"):
                stored = finish(worker.make(code, chosen))
        elif not as_json:
            out.print(f"Taking up the report made before ({len(stored.encounters)} contacts).")
        try:
            with err.status("sending; the authority checks every contact"):
                receipt = finish(worker.send(stored))
        except report.ReportRefused as error:
            if error.refusals:
                err.print(views.refusal_table(error.refusals))
            raise
    facts = views.receipt_facts(receipt, len(stored.encounters))
    published = ", ".join(facts["published_days"]) or "none: outside the infectious days"
    show(
        as_json,
        facts,
        views.facts_table(
            "Accepted",
            [
                ("Receipt", views.plain(receipt.reference)),
                ("Contacts", str(len(stored.encounters))),
                ("Days to be published", published),
            ],
        ),
        "Thank you. Those who were near you will be warned, and will not learn by whom.",
    )


def _choose_days(store: Store, days: str, yes: bool, as_json: bool) -> set[int]:
    """The days to declare, shown and agreed to. Raises Misuse."""
    parameters = account.read_trusted(store).parameters
    found = report.declarable(store, parameters)
    if not found:
        raise Misuse(
            "there is no signed contact near enough to declare; see: spot contacts (those waiting need: spot sync)"
        )
    chosen = {read_day(day.strip()) for day in days.split(",")} if days else set(found)
    if unknown := chosen - set(found):
        raise Misuse(f"there is nothing to declare on {', '.join(map(day_text, sorted(unknown)))}; see: spot contacts")
    if not as_json:
        selection = {day: found[day] for day in chosen}
        out.print(views.declaration_table(views.declaration_facts(selection, parameters.risk)))
        out.print(
            f"\nWhat leaves this device, sealed for {views.plain(parameters.authority)} and sent through a proxy:\n"
            "  the report code, and for each contact above its signed record and the secret of that one meeting.\n"
            "What does not: who you are, who they were, where it was, how near, any other contact.\n"
        )
        if left_out := report.unsigned(store, parameters):
            out.print(views.left_out_text(left_out))
    if not yes and not typer.confirm("Send it?"):
        raise Misuse("nothing was sent")
    return chosen
