"""The command `spot-backend`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from backend_stub import authority, chains, founding, groups, join, proxy, report, running, server, settings, status
from backend_stub.clock import today
from backend_stub.founding import Plan, Policy
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Misuse, SpotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from backend_stub.authority import Authority

EXAMPLES = """
A small, honest SPOT backend: a health authority with its group managers, a server, and proxies.

\b
  spot-backend init demo            make one in the folder demo
  spot-backend up demo              run all its parts until Ctrl-C
  spot-backend invite demo          an invitation for one person to join
  spot-backend code demo --onset 2026-11-20
                                    a report code for one diagnosed person
  spot-backend status demo          which parts answer, and how much there is
"""

app = typer.Typer(
    help=EXAMPLES, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None
)
authority_app = typer.Typer(help="The health authority by itself.", no_args_is_help=True)
server_app = typer.Typer(help="The server by itself.", no_args_is_help=True)
proxy_app = typer.Typer(help="A proxy by itself, and who is a proxy.", no_args_is_help=True)
parameters_app = typer.Typer(help="What the authority fixes for everybody.", no_args_is_help=True)
for name, child in (
    ("authority", authority_app),
    ("server", server_app),
    ("proxy", proxy_app),
    ("parameters", parameters_app),
):
    app.add_typer(child, name=name)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The backend's folder.")]
PartFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The part's own folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def main() -> None:
    """Run the command; an expected error is one line and an exit code."""
    try:
        app()
    except SpotError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.slug, "detail": error.text}))
        typer.echo(f"spot-backend: {error.text}", err=True)
        sys.exit(error.exit_code)


@app.command()
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="What users see as the authority's name.")] = "Demo Authority",
    host: Annotated[str, typer.Option(help="Where the parts listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The authority's; server and proxies take the next ones. 0: any free ones.")
    ] = settings.DEFAULT_PORT,
    groups: Annotated[int, typer.Option(help="How many proxy groups; agents want two.")] = 2,
    proxies_per_group: Annotated[int, typer.Option(help="How many proxies each group has.")] = 1,
    public_url: Annotated[
        str, typer.Option(help="Where agents reach a part, if not at host and port: https://example.org/{name}")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter, such as limits.epoch=60; lists as JSON."),
    ] = None,
    clock: Annotated[
        str, typer.Option(metavar="SPEED@ANCHOR", help="Sped-up time for a demonstration: 120@1700000000.")
    ] = "",
    publish_every: Annotated[float, typer.Option(help="Seconds between publications.")] = 3600.0,
    pool_wait: Annotated[float, typer.Option(help="Seconds that proxies wait for submissions to mix.")] = 1.0,
    curve: Annotated[
        str, typer.Option(help="arkworks (fast) or py_ecc; the best that is installed if not given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a backend: its keys, its groups and proxies, and the first parameters.

    spot-backend init demo --set limits.epoch=60 --set risk.warn_at=1
    """
    plan = Plan(
        name=name,
        host=host,
        port=port,
        groups=groups,
        proxies_per_group=proxies_per_group,
        public_url=public_url,
        policy=founding.changed(Policy(), _assignments(set_ or [])),
        clock=clock,
        curve=curve,
        publish_every=publish_every,
        pool_wait=pool_wait,
    )
    made = asyncio.run(founding.found(folder, plan))
    if as_json:
        _say_json(
            {
                "authority": made.authority,
                "fingerprint": made.fingerprint,
                "server": made.server,
                "proxies": made.proxies,
            }
        )
        return
    typer.echo(f"authority    {made.authority}\nfingerprint  {made.fingerprint}\n")
    typer.echo(f"Next: spot-backend up {folder}, and in another terminal spot-backend invite {folder}.")
    typer.echo("Users compare the fingerprint when they join: publish it where it cannot be altered.")


@app.command()
def up(folder: Folder) -> None:
    """Run all parts in this process until Ctrl-C.

    spot-backend up demo
    """
    _serve(_up(folder))


@authority_app.command("run")
def run_authority(folder: PartFolder) -> None:
    """Run the authority of a folder, such as demo/authority, until Ctrl-C."""
    _serve(_alone(folder, authority.serving))


@server_app.command("run")
def run_server(folder: PartFolder) -> None:
    """Run the server of a folder, such as demo/server, until Ctrl-C."""
    _serve(_alone(folder, server.serving))


@proxy_app.command("run")
def run_proxy(folder: PartFolder) -> None:
    """Run the proxy of a folder, such as demo/proxy-group-1-1, until Ctrl-C."""
    _serve(_alone(folder, proxy.serving))


@app.command()
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

    fresh = _with_authority(folder, work)
    if as_json:
        _say_json({"invitations": fresh})
    else:
        typer.echo("\n".join(fresh))


@app.command()
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

    fresh = _with_authority(folder, work)
    if as_json:
        _say_json({"code": fresh, "onset": day})
    else:
        typer.echo(fresh)


@app.command("status")
def show_status(folder: Folder, as_json: AsJson = False) -> None:
    """Say which parts answer, and how much there is of everything."""
    found = asyncio.run(status.status(folder))
    if as_json:
        _say_json(found)
        return
    for part, figures in found.items():
        typer.echo(part)
        for figure, value in figures.items():
            typer.echo(f"  {figure.replace('_', ' '):28}{value}")


@parameters_app.command("show")
def show_parameters(folder: Folder) -> None:
    """Say, in JSON, what can be set."""

    async def work(opened: Authority) -> Policy:
        return founding.policy_of((await opened.current()).trusted.parameters)

    _say_json(msgspec.to_builtins(_with_authority(folder, work)))


@parameters_app.command("set")
def set_parameters(
    folder: Folder,
    assignments: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Lists as JSON.")],
    as_json: AsJson = False,
) -> None:
    """Sign and append new parameters, which agents, server and proxies then follow.

    spot-backend parameters set demo risk.warn_at=10 'risk.infectiousness=[0.5,1.0]'
    """
    changes = _assignments(assignments)

    async def work(opened: Authority) -> int:
        async with opened.database.transaction() as connection:
            after = await chains.change(opened, connection, lambda before: founding.with_changes(before, changes))
        return after.head.number

    number = _with_authority(folder, work)
    if as_json:
        _say_json({"parameters": number})
    else:
        typer.echo(f"parameters number {number} are made")


@proxy_app.command("remove")
def remove_proxy(
    folder: Folder, name: Annotated[str, typer.Argument(help="Such as group-1-1.")], as_json: AsJson = False
) -> None:
    """Remove a proxy from its group: agents stop using it, and nothing that it signed can be declared any more.

    spot-backend proxy remove demo group-1-1
    """

    async def work(opened: Authority) -> int:
        return (await groups.remove(opened, name)).head.number

    number = _with_authority(folder, work)
    if as_json:
        _say_json({"removed": name, "parameters": number})
    else:
        typer.echo(f"{name} is removed; parameters number {number} are made")


# --- what the commands share ---

EPOCH = date(1970, 1, 1)
T = TypeVar("T")


def _say_json(value: object) -> None:
    typer.echo(json.dumps(value))


def _assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE each; a value that is no JSON is a string."""
    found: dict[str, Any] = {}
    for text in texts:
        target, separator, value = text.partition("=")
        if not separator:
            raise Misuse(f"a parameter is set by NAME=VALUE, such as limits.epoch=60, not {text!r}")
        try:
            found[target] = json.loads(value)
        except json.JSONDecodeError:
            found[target] = value
    return found


def _with_authority(folder: Path, work: Callable[[Authority], Awaitable[T]]) -> T:
    """Do this on the authority's database, whether it runs meanwhile or not."""

    async def opened() -> T:
        settings.parts(folder)
        async with authority.opened(folder / running.AUTHORITY) as office:
            return await work(office)

    return asyncio.run(opened())


def _serve(work: Coroutine[Any, Any, None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    asyncio.run(work)


async def _up(folder: Path) -> None:
    async with _stopping() as stopped, running.running(folder) as backend:
        typer.echo(f"the authority is at {backend.authority}; Ctrl-C stops")
        await _first(stopped.wait(), backend.wait())


async def _alone(folder: Path, serving: Callable[[Path], AbstractAsyncContextManager[None]]) -> None:
    try:
        async with _stopping() as stopped, serving(folder):
            await stopped.wait()
    except* SpotError as group:
        raise running.first(group) from None


async def _first(*work: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.create_task(one) for one in work]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for task in done:
        await task


@asynccontextmanager
async def _stopping() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the process
            loop.add_signal_handler(kind, stopped.set)
    yield stopped
