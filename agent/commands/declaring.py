"""Declaring an infection: `spot declare`.

A report waits for the running agent's next moment to declare, at which a dummy would go out otherwise.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent import account, report, service
from agent.clock import day_text, time_text
from agent.commands import views
from agent.commands.desk import Desk, Json, Yes, err, finish, out, read_day, show
from agent.declaring import next_moment
from agent.sync import Sync
from protocol import messages
from protocol.errors import Misuse

if TYPE_CHECKING:
    from agent.kept import StoredReport
    from agent.report import Reporter
    from agent.store import Store
    from protocol.messages import Receipt

LOOK = 0.5  # s between two looks for the answer
AGAIN, MOST_SENT = 2.0, 60  # s between two times that it is sent with --now while the authority checks it; how often


def declare_command(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="The report code; asked for if not given.")] = "",
    days: Annotated[str, typer.Option(help="Only these UTC days, such as 2026-11-20,2026-11-21.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the running agent has the answer.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Send it at once, whoever may be watching the network.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Declare an infection: send the signed contacts of days you choose to the authority.

    Shows first what would leave the device. It goes out by the running agent at a moment drawn before, in place of a
    dummy, so that nobody who watches your network can tell; `spot status` has the answer then. Running it again with
    the same code is safe.
    """
    if wait and now:
        raise Misuse("--wait is for what the running agent sends, --now sends at once; choose one")
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
        cover = account.read_trusted(store).parameters.limits.declaration_gap
        if cover and not (wait or now):
            _tell_queued(desk, store, as_json)
            return
        try:
            receipt = _send(worker, stored) if now or not cover else _wait(desk, store, stored)
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


def _send(worker: Reporter, stored: StoredReport) -> Receipt:
    with err.status("sending; the authority checks every contact"):
        for _ in range(MOST_SENT - 1):
            with contextlib.suppress(report.StillChecked):
                return finish(worker.send(stored))
            time.sleep(AGAIN)
        return finish(worker.send(stored))


def _tell_queued(desk: Desk, store: Store, as_json: bool) -> None:
    """Say when the report goes out."""
    running, moment = service.is_running(desk.folder), next_moment(store)
    when = f"about {time_text(moment)}" if running and moment > desk.clock.now() else ""
    gap = views.hours(account.read_trusted(store).parameters.limits.declaration_gap)
    show(
        as_json,
        {"queued": True, "running": running, "about": round(moment) if when else None},
        f"Your report is sealed and waits. The running agent sends it {when or 'at its next moment'}, in place of a\n"
        f"dummy; such moments come every {gap}, each drawn. If it cannot be sent then, it goes out at the next one.",
        "The answer, and what was not accepted: spot status. To wait for it here: spot declare CODE --wait"
        if running
        else "[bold red]No agent is running[/], so nothing is sent yet: start it (spot run), or send it with --now.",
        "[dim]--now sends it at once: who watches your network then sees more messages than the schedule has.[/]",
    )


def _wait(desk: Desk, store: Store, stored: StoredReport) -> Receipt:
    """The answer, once the running agent has it. Raises what `outcome` raises, Misuse where no agent is running."""
    with err.status("waiting for the running agent's next moment to declare") as shown:
        while True:
            found = next((one for one in store.reports() if one.digest == stored.digest), None)
            if found is None:
                raise Misuse("the report is gone: this agent was left, or it is older than what is kept")
            if found.receipt is not None:
                return report.outcome(store, found, messages.decode(messages.Receipt, found.receipt))
            if not service.is_running(desk.folder):
                raise Misuse(
                    "no agent is running, so nothing is sent; the report is kept: start the agent with spot run"
                )
            if (moment := next_moment(store)) > desk.clock.now():
                shown.update(f"waiting for the running agent, which sends it about {time_text(moment)}")
            time.sleep(LOOK)


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
