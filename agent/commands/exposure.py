"""Whether somebody declared whom one met: `spot exposure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent import account, exposure
from agent.commands import plot as drawing
from agent.commands import views
from agent.commands.desk import Desk, Json, show
from agent.commands.explaining import explained, explanation_facts, explanation_table, explanation_text


def exposure_command(
    context: typer.Context,
    explain: Annotated[
        bool, typer.Option("--explain", help="Each warned day's minutes, nearness and infectiousness, multiplied out.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw them: a .png, .svg or .pdf file (needs the extra `plot`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show whether somebody you were near has declared an infection, and how much of a risk it was."""
    desk: Desk = context.obj
    with desk.store() as store:
        account.check_not_moved(store)  # "none known" would be a false comfort
        parameters = account.read_trusted(store).parameters
        risks = exposure.day_risks(store.exposures(), parameters.risk)
    if plot is not None:
        drawing.draw(plot, risks, parameters.risk)
    facts = views.exposure_facts(risks, parameters)
    table = views.exposure_table(risks, parameters) if risks else "No exposure known."
    warned = [day["day"] for day in facts["days"] if day["warning"]]
    advice: list[Any] = [
        f"[bold red]Warning[/] for {day}: follow what {views.plain(parameters.authority)} advises." for day in warned
    ]
    if explain:
        facts["explained"] = explanation_facts(risks, parameters.risk)
        advice = [
            *(explanation_table(day) for day in explained(risks)),
            explanation_text(parameters.risk),
            *advice,
        ]
    show(as_json, facts, table, *advice)
