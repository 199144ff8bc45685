"""The command `spot`: every command there is, and how it fails."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.commands import views
from agent.commands.contacts import contacts_command
from agent.commands.declaring import declare_command
from agent.commands.desk import Desk, err
from agent.commands.doctor import doctor_command
from agent.commands.exposure import exposure_command
from agent.commands.joining import join_command, leave_command
from agent.commands.moving import export_command, import_command
from agent.commands.running import pause_command, resume_command, run_command, sync_command
from agent.commands.service import service_app
from agent.commands.status import status_command
from agent.settings import default_folder, read_settings
from protocol.errors import SpotError, StorageError

EXIT_CODES = """Exit codes: 0 done; 2 asked for something that cannot be done; 10 malformed data; 12 refused; 13 code or
invitation refused; 14 the authority's keys changed; 20 backend unreachable; 30 not joined; 31 in use by another
process; 32 the store or the disk; 33 the radio; 34 moved to another device; 40 the doctor found a fault;
130 interrupted."""

app = typer.Typer(
    name="spot",
    help="Contact tracing in which false alerts cannot be made up, on your own device.\n\n"
    "A first day:  spot join URL --invite CODE,  then  spot run,  and now and then  spot status  and  spot exposure.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def prepare(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where this agent keeps its data.", envvar="SPOT_DATA_DIR", show_default="yours"
        ),
    ] = None,
) -> None:
    """Contact tracing in which false alerts cannot be made up, on your own device."""
    folder = data_dir or default_folder()
    settings = read_settings(folder)
    context.obj = Desk(folder, settings, settings.open_clock(), random.SystemRandom())


for name, command in (
    ("join", join_command),
    ("run", run_command),
    ("pause", pause_command),
    ("resume", resume_command),
    ("contacts", contacts_command),
    ("sync", sync_command),
    ("declare", declare_command),
    ("exposure", exposure_command),
    ("status", status_command),
    ("leave", leave_command),
    ("export", export_command),
    ("import", import_command),
    ("doctor", doctor_command),
):
    app.command(name=name)(command)
app.add_typer(service_app)


def main() -> NoReturn:
    """Run the command; every expected error is one line on standard error and an exit code of its own."""
    try:
        app(prog_name="spot")
    except SpotError as error:
        code = _fail(error)
    except OSError as error:
        code = _fail(StorageError(f"the system says: {error.strerror or error}; check disk and permissions"))
    sys.exit(code)


def _fail(error: SpotError) -> int:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": error.slug, "detail": error.text}) + "\n")
    err.print(f"[bold red]error:[/] {views.plain(error.text)}", soft_wrap=True)
    return error.exit_code
