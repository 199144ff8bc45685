"""All parts of a backend in one process, each to be stopped and started again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from backend_stub import settings
from backend_stub.authority import service as authority
from backend_stub.proxy import service as proxy
from backend_stub.server import service as server
from protocol.errors import Misuse, SpotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from backend_stub.clock import Clock

AUTHORITY = authority.FOLDER
SERVER = "server"


def serving(folder: Path, clock: Clock | None = None) -> AbstractAsyncContextManager[None]:
    """The part of this folder (authority, server or proxy-NAME by its name), answering."""
    if folder.name == AUTHORITY:
        return authority.serving(folder, clock)
    if folder.name == SERVER:
        return server.serving(folder, clock)
    return proxy.serving(folder, clock)


class Backend:
    """The parts of one backend; each runs in a task of its own.

    authority, server, proxies: where they are, proxies by their folder's name. clock: for all parts, in place of the
    one in their settings.
    """

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.parts = settings.parts(folder)
        self._clock = clock
        self._running: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        urls = {part: settings.read_part(folder / part).url for part in self.parts}
        self.authority = urls.pop(AUTHORITY)
        self.server = urls.pop(SERVER)
        self.proxies = urls

    async def start(self, part: str) -> None:
        """Have this part answer. Raises SpotError where it cannot."""
        if part not in self.parts:
            raise Misuse(f"there is no part {part!r}; there are {', '.join(self.parts)}")
        if part in self._running:
            raise Misuse(f"{part} runs already")
        ready, stop = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(self._run(part, ready, stop), name=part)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            await task
        self._running[part] = (task, stop)

    async def _run(self, part: str, ready: asyncio.Event, stop: asyncio.Event) -> None:
        try:
            async with serving(self.folder / part, self._clock):
                ready.set()
                await stop.wait()
        except* SpotError as group:
            raise first(group) from None

    async def stop(self, part: str) -> None:
        """Have this part finish what it answers, and go."""
        if part in self._running:
            task, stop = self._running.pop(part)
            stop.set()
            await task

    async def stop_all(self) -> None:
        """Stop what runs, proxies first."""
        for part in reversed(list(self._running)):
            await self.stop(part)

    async def wait(self) -> None:
        """Until a part breaks; raises what broke it."""
        tasks = [task for task, _ in self._running.values()]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task


def first(group: BaseExceptionGroup[SpotError]) -> SpotError:
    """The first error in a group of them."""
    inner = group.exceptions[0]
    return first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@asynccontextmanager
async def running(folder: Path, clock: Clock | None = None) -> AsyncIterator[Backend]:
    """All parts of a backend, answering until the end of the block. Raises SpotError."""
    backend = Backend(folder, clock)
    try:
        for part in backend.parts:
            await backend.start(part)
        yield backend
    finally:
        await backend.stop_all()
