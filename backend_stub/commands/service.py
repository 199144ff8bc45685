"""Running the parts with systemd: `service`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from backend_stub.commands.common import Folder
from backend_stub.operations import systemd
from protocol.errors import Misuse


def service(
    folder: Folder,
    install: Annotated[
        bool, typer.Option("--install", help="Write the units to /etc/systemd/system, as root.")
    ] = False,
) -> None:
    """Print a sandboxed systemd unit for each part, and what to type; or write them with --install.

    The parts run as whoever owns their folder. Where the keys are sealed, the passphrase comes from an encrypted
    credential that only this machine can open; the line that makes it is printed.

    spot-backend service demo
    """
    plans = systemd.plans(folder)
    if not install:
        for plan in plans:
            typer.echo(f"# {systemd.UNITS / plan.name}\n{systemd.unit(plan)}")
    elif os.geteuid() != 0:
        raise Misuse(f"this takes root (the parts will run as {plans[0].user}); use sudo, or print the units without")
    else:
        for plan in plans:
            target = systemd.UNITS / plan.name
            target.write_text(systemd.unit(plan), "utf-8")
            target.chmod(0o644)
            typer.echo(f"wrote {target}")
    typer.echo("# then, as root:")
    for step in systemd.steps(plans):
        typer.echo(("" if install else "# ") + step)
