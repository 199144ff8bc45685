"""The commands `spot service …`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agent import systemd
from agent.commands.desk import Desk, Json, out, show
from agent.commands.views import facts_table, plain
from protocol.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.systemd import Step

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

service_app = typer.Typer(
    name="service",
    help="Have systemd run the agent, from the machine's start on, as whoever owns the data folder.",
    no_args_is_help=True,
)


@service_app.command()
def install(
    context: typer.Context,
    dry_run: DryRun = False,
    print_unit: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
) -> None:
    """Install and start the service. Takes root; says what to type where you are not.

    It reads settings.toml in the data folder, not your shell's environment. The store's key has to be in a file, as a
    keyring is locked until somebody logs in.
    """
    desk: Desk = context.obj
    plan = systemd.plan(desk.folder)
    if print_unit:
        sys.stdout.write(systemd.unit(plan))
        return
    _take(systemd.install_steps(plan), dry_run, ["--data-dir", str(plan.folder), "service", "install"])
    if not dry_run:
        out.print(f"Installed: runs as {plain(plan.user)}, now and at every start. Look: spot service status")


@service_app.command()
def uninstall(dry_run: DryRun = False) -> None:
    """Stop and remove the service. The data stays; to delete it: spot leave."""
    if not dry_run and not systemd.is_installed():
        raise Misuse("the service is not installed; there is nothing to remove")
    _take(systemd.uninstall_steps(), dry_run, ["service", "uninstall"])
    if not dry_run:
        out.print("Removed. The data stays; to delete it: spot leave")


def _take(steps: Sequence[Step], dry_run: bool, arguments: list[str]) -> None:
    if dry_run:
        for step in steps:
            out.print(plain(str(step)), soft_wrap=True)
        return
    systemd.check_machine(arguments)
    os.umask(0o022)
    for step in steps:
        step.take()


@service_app.command()
def status(as_json: Json = False) -> None:
    """Show whether systemd runs the agent, and where its log is."""
    facts = systemd.state()
    if facts.get("LoadState") == "not-found":
        raise Misuse("the service is not installed; install it with: spot service install")
    lines = [
        ("Service", plain(f"{facts.get('ActiveState')} ({facts.get('SubState')}), {facts.get('UnitFileState')}")),
        ("Says", plain(facts.get("StatusText") or "nothing")),
        ("Process", plain(f"{facts.get('MainPID')}, started anew {facts.get('NRestarts')} times")),
        ("Log", "journalctl -u spot -f"),
        ("More", "spot status, spot doctor"),
    ]
    show(as_json, facts, facts_table("SPOT service", lines))
