"""The running agent: `spot run`, `spot pause`, `spot resume`, `spot sync`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent import power, service
from agent.commands import views
from agent.commands.desk import Desk, Json, err, finish, out, show
from agent.kept import State
from agent.notify import open_manager
from agent.service import Service
from agent.settings import Settings
from agent.store import Store
from agent.sync import Sync
from protocol.errors import Misuse, SpotError

if TYPE_CHECKING:
    from protocol.curve import Curve


def run_command(
    context: typer.Context,
    radio: Annotated[str, typer.Option(help="auto, bluez or simulated; wins over the settings.")] = "",
    adapter: Annotated[str, typer.Option(help="Such as hci0; wins over the settings.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
) -> None:
    """Be on air and keep the contact list, until Ctrl-C.

    The other commands work beside it.
    """
    desk: Desk = context.obj
    given = {"radio": radio, "adapter": adapter}
    desk = Desk(desk.folder, _with(desk.settings, given), desk.clock, desk.chance)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Other libraries' debug output would hold addresses; only our own rooms say more.
    for room in ("agent", "ble"):
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    curve = desk.curve()
    with desk.store() as store:
        asyncio.run(_run(desk, curve, store))


def _with(settings: Settings, given: dict[str, str]) -> Settings:
    values = msgspec.structs.asdict(settings) | {name: value for name, value in given.items() if value}
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise Misuse(f"this option is wrong: {error}; see: spot run --help") from None


async def _run(desk: Desk, curve: Curve, store: Store) -> None:
    """Run until the task is cancelled by a signal."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with desk.radio() as radio:
        worker = Service(
            store,
            radio,
            curve,
            desk.chance,
            desk.clock,
            power_cycle=desk.settings.power_cycle,
            manager=open_manager(),
        )
        with contextlib.suppress(asyncio.CancelledError):
            await worker.run(desk.settings.correction, lambda: power.duty_of(desk.settings.duty))


def pause_command(context: typer.Context) -> None:
    """Be silent and deaf until `spot resume`; also across restarts."""
    desk: Desk = context.obj
    with desk.store() as store:
        store.put(service.PAUSED, True)
    out.print("Paused: nothing is broadcast or heard. Go on with: spot resume")


def resume_command(context: typer.Context) -> None:
    """Be on air again after `spot pause`."""
    desk: Desk = context.obj
    with desk.store() as store:
        store.put(service.PAUSED, None)
    out.print("Resumed." if service.is_running(desk.folder) else "Resumed; start the agent with: spot run")


def sync_command(context: typer.Context, as_json: Json = False) -> None:
    """Look for news from the authority now, and submit the contacts whose time has come.

    `spot run` does this by itself. Contacts have random delays, so that their times tell nothing; they are kept here
    too.
    """
    desk: Desk = context.obj
    curve = desk.curve()
    with desk.store() as store:
        worker = Sync(curve, desk.chance, store, desk.clock)
        with err.status("syncing"):
            progress = finish(worker.step(refresh=True))
        status = worker.status()
        waiting = len(store.encounters(state=State.WAITING)) + len(store.encounters(state=State.PENDING))
    show(
        as_json,
        views.progress_facts(progress) | {"waiting": waiting, "problem": status.problem, "routes": status.routes},
        f"Sync: {views.progress_text(progress, waiting)}",
        f"Backend: {views.sync_text(status)}",
    )
    if status.failures:
        raise typer.Exit(SpotError.exit_code)
