"""The command `spot doctor`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.markup import escape

from agent import service
from agent.commands.desk import Desk, Json, err, finish, out, radio_errors, show
from agent.commands.views import plain
from agent.doctor.examination import examine
from agent.doctor.findings import Verdict, worst
from agent.doctor.radio import RadioCheck
from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.doctor.findings import Finding

FAULT_EXIT = 40
_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "bold red"}


def doctor_command(
    context: typer.Context,
    radio: Annotated[bool, typer.Option("--radio", help="Be on air and show what is heard of other machines.")] = False,
    seconds: Annotated[float, typer.Option(help="How long to be on air; until Ctrl-C at most.", min=1)] = 60,
    url: Annotated[str, typer.Option(help="Look at this backend too, such as before joining.")] = "",
    as_json: Json = False,
) -> None:
    """Look for what keeps this machine from working, and say what to do about it.

    With --radio, run it on two machines side by side at once: each shows the other's frames. They are nobody's: no
    agent makes an encounter of them.
    """
    desk: Desk = context.obj
    if radio:
        _check_radio(desk, seconds, as_json)
        return
    with err.status("looking"):
        findings = finish(examine(desk, url))
    _tell(findings, as_json)


def _check_radio(desk: Desk, seconds: float, as_json: bool) -> None:
    if desk.settings.clock:
        raise Misuse("the radio keeps real time; take the setting clock away first")
    # Held for as long, so that no agent starts on this adapter meanwhile.
    held = service.running_lock(desk.folder, service.PROBE) if desk.folder.exists() else contextlib.nullcontext()
    with held:
        check = finish(_on_air(desk, seconds, as_json))
    _tell(check.findings(), as_json, check)


async def _on_air(desk: Desk, seconds: float, as_json: bool) -> RadioCheck:
    with radio_errors():
        async with desk.radio() as radio:
            check = RadioCheck(radio, desk.chance.randbytes, desk.clock.now)
            if as_json or not out.is_terminal:
                await check.run(seconds)
            else:
                with Live(check.table(), console=out, auto_refresh=False, transient=True) as live:
                    await check.run(seconds, lambda: live.update(check.table(), refresh=True))
            return check


def _tell(findings: Sequence[Finding], as_json: bool, check: RadioCheck | None = None) -> None:
    verdict = worst(findings)
    facts = {
        "verdict": verdict.value,
        "findings": [
            {"name": one.name, "verdict": one.verdict.value, "text": one.text, "remedy": one.remedy} for one in findings
        ],
    }
    if check is None:
        show(as_json, facts)
    else:
        show(as_json, facts | {"radio": check.facts()}, *([check.table()] if check.senders else []))
    if not as_json:
        for one in findings:
            out.print(_line(one), soft_wrap=True)
    if verdict is Verdict.FAULT:
        raise typer.Exit(FAULT_EXIT)


def _line(one: Finding) -> str:
    remedy = f" → {plain(one.remedy)}" if one.remedy else ""
    style = _STYLES[one.verdict]
    return f"[{style}]{one.verdict.value:<8}[/]{escape(one.name):<12} {plain(one.text)}{remedy}"
