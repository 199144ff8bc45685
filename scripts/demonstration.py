"""The demonstration: a backend, four agents on the simulated radio, two infections, time sped up.

A and B meet; later B and C meet, far away; D stands beside A behind a wall. A declares: B is warned, C and D are not.
Then B, diagnosed too, declares: C is warned, A and D are not newly warned. Everything a person would do goes through
the commands `spot` and `spot-backend`; only the radio and the clock are made up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from agent.clock import Clock, day_text
from agent.service import Service
from agent.settings import read_settings
from agent.store import open_store
from ble.propagation import Wall
from ble.simulated import Air, Conditions, SimulatedRadio
from protocol.curve import open_curve
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.timescale import Timescale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

MEETING = 20 * 60.0  # seconds of sped-up time
START = 9 * 3600.0  # the day's time at which the demonstration begins, seconds
PATIENCE = 150.0  # real seconds: on a machine that does other things as well
NAMES = ("A", "B", "C", "D")
FAR = 10_000.0  # metres
PLACES = {"A": (0.0, 0.0), "B": (1.0, 0.0), "C": (FAR, 0.0), "D": (0.0, 1.5)}
WALLS = (Wall((-50.0, 1.0), (50.0, 1.0)),)  # opaque; between D and everybody
PICTURES = {
    "meet": "   A · B                                             C\n ━━━━━━━━━━━ wall\n   D",
    "part": "   A                                             B · C\n ━━━━━━━━━━━ wall\n   D",
}

console = Console(highlight=False, width=min(shutil.get_terminal_size().columns, 110))


class Failed(Exception):
    """Something else happened than should have."""


@dataclass(slots=True)
class Stage:
    """Where it happens: the folder, the sped-up clock, and how long the steps took."""

    folder: Path
    clock: Clock
    began: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        """Announce what happens next."""
        passed = time.monotonic() - self.began
        now = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%H:%M")
        console.print(f"\n[bold cyan]{passed:4.0f} s[/] [dim]({now} in the demonstration)[/]  [bold]{text}[/]")

    async def command(self, *words: str, quiet: bool = False, shown: tuple[str, ...] | None = None) -> str:
        """Run a command as a person would; returns its output. Raises Failed."""
        if not quiet:
            console.print(Text("  $ " + " ".join(shown or words), style="green"))
        process = await asyncio.create_subprocess_exec(
            installed(words[0]),
            *words[1:],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"SPOT_CLOCK": str(self.clock.scale), "SPOT_KEY": "file", "COLUMNS": "100"},
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise Failed(f"{words[0]} {words[1]}: exit code {process.returncode}\n{output.decode()}{errors.decode()}")
        if not quiet:
            for line in output.decode().rstrip().splitlines():
                console.print(Text("    " + line.rstrip(), style="dim"))
        return output.decode()

    def data(self, name: str) -> str:
        """The data folder of an agent."""
        return str(self.folder / f"agent-{name}")

    async def spot(self, name: str, *words: str, quiet: bool = False) -> str:
        """Run `spot` for one agent."""
        shown = ("spot", "--data-dir", f"agent-{name}", *words)
        return await self.command("spot", "--data-dir", self.data(name), *words, quiet=quiet, shown=shown)

    async def facts(self, name: str, *words: str) -> Any:
        """What `spot ... --json` says for one agent."""
        return json.loads(await self.spot(name, *words, "--json", quiet=True))

    async def backend(self, *words: str, quiet: bool = False) -> Any:
        """Run `spot-backend ... --json`."""
        return json.loads(await self.command("spot-backend", *words, "--json", quiet=quiet))


def installed(command: str) -> str:
    """Where a command of this project is, beside the Python that runs this."""
    return str(Path(sys.executable).with_name(command))


async def main() -> None:
    """Run the demonstration. Raises Failed."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--speed", type=float, default=150, help="how many times as fast time passes (150)")
    parser.add_argument("--keep", action="store_true", help="keep the data folders, to look at")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spot-demo-"))
    anchor = time.time()
    scale = Timescale(options.speed, anchor, day_of(anchor) * SECONDS_A_DAY + START - anchor)
    stage = Stage(folder, Clock(scale))
    try:
        async with contextlib.AsyncExitStack() as stack:
            await play(stage, stack)
    finally:
        if options.keep:
            console.print(f"\nThe data folders are kept in {folder}")
        else:
            shutil.rmtree(folder)


async def play(stage: Stage, stack: contextlib.AsyncExitStack) -> None:
    """What happens, step by step."""
    stage.step("A backend: authority, server and a proxy in each of two groups, on this machine")
    url = await start_backend(stage, stack)

    stage.step("Four people join")
    invited = await stage.backend("invite", str(stage.folder / "backend"), "--count", "4", quiet=True)
    await asyncio.gather(
        *(
            stage.spot(name, "join", url, "--invite", code, "--yes", quiet=True)
            for name, code in zip(NAMES, invited["invitations"], strict=True)
        )
    )
    await stage.spot("A", "status")

    stage.step("Their agents run; A and B are a metre apart, D is as near but behind a wall")
    air = Air(stage.clock, Conditions(walls=WALLS, tick=10.0), seed=1)
    radios, services = await stack.enter_async_context(agents(stage, air))
    console.print(PICTURES["meet"], style="yellow")
    await wait_for_meeting(stage, "A and B are together")
    stage.step("B leaves and meets C")
    air.move(radios["B"], FAR - 1.0, 0.0)
    console.print(PICTURES["part"], style="yellow")
    await wait_for_meeting(stage, "B and C are together")
    air.move(radios["B"], FAR / 2, 0.0)

    stage.step("Contacts are submitted through proxies, and signed once both sides have come")
    await until("signed contacts", lambda: contacts_signed(stage))
    for name in NAMES:
        await stage.spot(name, "contacts")

    stage.step("A is ill: the authority hands out a report code, A declares")
    await declare(stage, "A")
    await until("B's warning", lambda: warned(stage, "B"))
    await show_exposures(stage, {"B"})

    stage.step("B is ill as well, and declares")
    before = await stage.facts("B", "exposure")
    await declare(stage, "B")
    await until("C's warning", lambda: warned(stage, "C"))
    await show_exposures(stage, {"B", "C"})
    if await stage.facts("B", "exposure") != before:
        raise Failed("B's own warning changed with B's declaration")
    dummies = sum(one.progress.dummies for one in services)
    console.print(f"\nBeside what was real, the four agents sent {dummies} dummies that look like it.")
    console.print(f"\n[bold green]Exactly that happened[/], in {time.monotonic() - stage.began:.0f} s.")


async def start_backend(stage: Stage, stack: contextlib.AsyncExitStack) -> str:
    """Make and start a backend; returns the authority's URL."""
    folder = str(stage.folder / "backend")
    made = await stage.backend(
        *("init", folder, "--name", "Demo Hospital", "--port", str(free_ports(4))),
        *("--clock", str(stage.clock.scale)),
        *("--set", "limits.epoch=300", "--set", "limits.delay=120", "--set", "limits.retry_first=120"),
        *("--set", "limits.submission_gap=60", "--set", "limits.declaration_gap=300"),
        *("--publish-every", "60"),
        quiet=True,
    )
    console.print(f"    {made['authority']}  fingerprint {made['fingerprint']}", style="dim")
    with (stage.folder / "backend.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(installed("spot-backend"), "up", folder), stdout=asyncio.subprocess.DEVNULL, stderr=log
        )

    async def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()

    stack.push_async_callback(stop)
    for offset in range(4):
        await until("the backend", functools.partial(listening, made["authority"], offset))
    return str(made["authority"])


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in random.Random().sample(range(20000, 40000, count), 100):  # noqa: S311
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise Failed("no free ports on this machine")


async def listening(url: str, offset: int) -> bool:
    """Whether the part whose port is `offset` after the authority's answers."""
    at = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(at.hostname, (at.port or 0) + offset)
    except OSError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def agents(stage: Stage, air: Air) -> AsyncIterator[tuple[dict[str, SimulatedRadio], list[Service]]]:
    """The four agents at work in this process, each on its own data folder; gives their radios and them."""
    radios = {name: air.radio(name, place) for name, place in PLACES.items()}
    with contextlib.ExitStack() as stores:
        services = []
        for name, radio in radios.items():
            folder = Path(stage.data(name))
            store = stores.enter_context(contextlib.closing(open_store(folder, "file")))
            curve = open_curve(read_settings(folder).curve or None)
            services.append(Service(store, radio, curve, random.SystemRandom(), stage.clock))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.run()) for service in services]
            yield radios, services
            for task in tasks:
                task.cancel()


async def wait_for_meeting(stage: Stage, text: str) -> None:
    """Let the time of a meeting pass."""
    end = stage.clock.now() + MEETING
    with console.status(text):
        while (left := end - stage.clock.now()) > 0:
            await stage.clock.sleep(min(left, 60))


async def until(what: str, done: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something, for PATIENCE real seconds at most. Raises Failed."""
    end = time.monotonic() + PATIENCE
    with console.status(f"waiting for {what}"):
        while not await done():
            if time.monotonic() > end:
                raise Failed(f"{what} did not come within {PATIENCE:.0f} s")
            await asyncio.sleep(0.2)


async def contacts_signed(stage: Stage) -> bool:
    """Whether A, B and C have all contacts of their meetings signed."""
    minutes = {}
    for name in ("A", "B", "C"):
        contacts = await stage.facts(name, "contacts")
        if any(one["state"] in ("open", "waiting") for one in contacts):
            return False
        minutes[name] = sum(one["minutes"] for one in contacts if one["state"] == "signed")
    wanted = 0.8 * MEETING / 60
    return bool(minutes["A"] >= wanted and minutes["B"] >= 2 * wanted and minutes["C"] >= wanted)


async def declare(stage: Stage, name: str) -> None:
    """Have one person diagnosed today, and declare."""
    today = day_text(day_of(stage.clock.now()))
    made = await stage.backend("code", str(stage.folder / "backend"), "--onset", today, quiet=True)
    await stage.spot(name, "declare", made["code"], "--yes", "--wait")


async def warned(stage: Stage, name: str) -> bool:
    """Whether this agent warns its user, after a sync."""
    await stage.spot(name, "sync", quiet=True)
    return bool((await stage.facts(name, "exposure"))["warned"])


async def show_exposures(stage: Stage, expected: set[str]) -> None:
    """Sync every agent and show its exposures. Raises Failed unless exactly the expected ones are warned."""
    await asyncio.gather(*(stage.spot(name, "sync", quiet=True) for name in NAMES))
    for name in NAMES:
        await stage.spot(name, "exposure")
        found = await stage.facts(name, "exposure")
        if found["warned"] is not (name in expected):
            raise Failed(f"{name} is {'' if found['warned'] else 'not '}warned, which is wrong")
        if name in expected and not all(day["minutes"] > 0 and day["risk"] > 0 for day in found["days"]):
            raise Failed(f"{name}'s warning lacks minutes or risk")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Failed as failure:
        console.print(f"\n[bold red]This is not what should have happened:[/] {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
