"""What every `spot` command works with: one data folder's settings, store, curve and radio; how results are shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from agent import store as storage
from agent.clock import day_number
from ble.carriage import SERVICE_UUID
from ble.radio import Radio, RadioError, RadioOptions, open_radio
from protocol.curve import Curve, open_curve
from protocol.errors import Misuse, RadioUnavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from agent.clock import Clock
    from agent.settings import Settings
    from agent.store import Store

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Desk:
    """What every command works with."""

    folder: Path
    settings: Settings
    clock: Clock
    chance: random.Random

    def curve(self) -> Curve:
        """The curve maker; says so where it is the slow one."""
        curve = open_curve(self.settings.curve or None)
        if curve.name == "py_ecc":
            err.print(
                "[yellow]note:[/] using py_ecc, which is about 100 times slower than arkworks; "
                + escape("pip install 'spot-agent[fast]' mends that"),
                soft_wrap=True,
            )
        return curve

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, closed afterwards. Raises NotJoined, StorageError."""
        store = storage.open_store(self.folder, self.settings.key)
        try:
            yield store
        finally:
            store.close()

    def radio(self) -> Radio:
        """The radio of the settings. Raises RadioUnavailable."""
        settings = self.settings
        options = RadioOptions(
            adapter=settings.adapter or None,
            service_uuid=SERVICE_UUID if settings.service_uuid is None else settings.service_uuid,
            tx_power=settings.tx_power,
            clock=self.clock,
        )
        with radio_errors():
            return open_radio(settings.radio, options)


@contextlib.contextmanager
def radio_errors() -> Iterator[None]:
    """A radio's errors as the agent's."""
    try:
        yield
    except RadioError as error:
        raise RadioUnavailable(str(error)) from None


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Do this work to its end, or until Ctrl-C, which raises KeyboardInterrupt.

    asyncio's own way misses a Ctrl-C that comes just before its loop goes to sleep, until something else wakes it.
    """
    interrupted = False

    async def heeding() -> T:
        task = asyncio.current_task()

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            if task is not None:
                task.cancel()

        with contextlib.suppress(NotImplementedError):  # on Windows, where asyncio's way is all there is
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        return await work

    try:
        return asyncio.run(heeding())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def show(as_json: bool, facts: Any, *tables: Any) -> None:
    """Print the facts as JSON, or the tables."""
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    for table in tables:
        out.print(table)


def read_day(text: str) -> int:
    """A UTC day, in days since 1970. Raises Misuse."""
    try:
        return day_number(text)
    except ValueError:
        raise Misuse(f"a day is written like 2026-11-22, not {text!r}") from None
