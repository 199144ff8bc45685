"""Running a backend, whole (`up`) or a part of it (`authority run`, `server run`, `proxy run`)."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend_stub import settings
from backend_stub.authority import service as authority
from backend_stub.commands.common import Folder, PartFolder
from backend_stub.keyring import sealing
from backend_stub.operations import running
from backend_stub.proxy import service as proxy
from backend_stub.server import service as server
from protocol.errors import SpotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

Port = Annotated[int, typer.Option(min=0, max=65535, help="Where it listens, in place of the port in its settings.")]

WatchPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Where on 127.0.0.1 it answers /health, /ready and /metrics; 0: nowhere."),
]


def up(folder: Folder) -> None:
    """Run all parts in this process until Ctrl-C.

    spot-backend up demo
    """
    sealing.unlock_all(folder / part for part in settings.parts(folder))
    _serve(_up(folder))


def run_authority(folder: PartFolder, port: Port = 0, watch_port: WatchPort = None) -> None:
    """Run the authority of a folder, such as demo/authority, until Ctrl-C or SIGTERM.

    As many processes of it as you like, on one port (Linux; elsewhere: --port, each its own).
    """
    _serve(_alone(folder, port, watch_port, authority.serving))


def run_server(folder: PartFolder, port: Port = 0, watch_port: WatchPort = None) -> None:
    """Run the server of a folder, such as demo/server, until Ctrl-C or SIGTERM.

    As many processes of it as you like, on one port (Linux; elsewhere: --port, each its own, all of them listed as
    `server` in the proxies' settings.toml). What a process has taken it answers before it ends.
    """
    _serve(_alone(folder, port, watch_port, server.serving))


def run_proxy(folder: PartFolder, port: Port = 0, watch_port: WatchPort = None) -> None:
    """Run the proxy of a folder, such as demo/proxy-group-1-1, until Ctrl-C or SIGTERM.

    As many processes of it as you like, on one port (Linux). What a process has taken it answers before it ends.
    """
    _serve(_alone(folder, port, watch_port, proxy.serving))


def _serve(work: Coroutine[Any, Any, None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    # Windows' other loop cannot watch sockets that listen.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(work)


async def _up(folder: Path) -> None:
    async with _stopping() as stopped, running.running(folder) as backend:
        typer.echo(f"the authority is at {backend.authority}; Ctrl-C stops")
        await _first(stopped.wait(), backend.wait())


async def _alone(
    folder: Path, port: int, watch_port: int | None, serving: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    sealing.unlock_all([folder])
    changes: dict[str, Any] = {"share_port": True} | ({"port": port} if port else {})
    if watch_port is not None:
        changes["watch_port"] = watch_port
    try:
        async with _stopping() as stopped, serving(folder, changes=changes):
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
