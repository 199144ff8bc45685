"""Processes that compute beside the event loop, so that a long list of contacts holds nobody else up.

A process that dies, whatever killed it, is replaced, and what it was at is done again. Work is plain functions of
modules and plain values, which both travel between processes.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from backend_stub.keyring import memory
from protocol.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

log = logging.getLogger(__name__)

TRIES = 3
NICE = 10  # who joins or asks for the heads goes first

P = ParamSpec("P")
R = TypeVar("R")


class Workers:
    """So many processes, begun when there is work for them; none: a thread of this process does it.

    They are spawned, not forked: a copy of a process with threads and open connections can hang.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End them, once they are done with what they are at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    async def run(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """What the function returns, computed in one of the processes. Raises what it raises, or Unreachable."""
        if not self._count:
            return await asyncio.to_thread(function, *arguments, **named)
        for _ in range(TRIES):
            pool = self._pool = self._pool or self._fresh()
            try:
                return await asyncio.wrap_future(pool.submit(function, *arguments, **named))
            except BrokenProcessPool:
                log.warning("a worker process ended before it was done; what it was at is done again")
                if self._pool is pool:
                    self._pool = None
                    pool.shutdown(wait=False)
        raise Unreachable("what was asked cannot be computed now; try again later")

    async def warm_up(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> None:
        """Begin all processes, and have each do this first. Raises Unreachable."""
        await asyncio.gather(*(self.run(function, *arguments, **named) for _ in range(self._count)))

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """What a worker does first: Ctrl-C is for the process that began it, whose end is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep_off_disk()
    with suppress(AttributeError, OSError):  # Windows has no os.nice
        os.nice(NICE)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
