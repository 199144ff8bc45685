"""What talking to BlueZ takes of an agent's own processor time: frames put on air, scans begun and ended, reports.

The bus is a real one of the bench's own; the BlueZ on it is that of the tests, in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ble.carriage import Carriage
from ble.frame import Block, carousel
from ble.radio import SystemClock
from tests.ble.conftest import CONFIGURATION, let_bleak_go

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ble.bluez import BlueZRadio

FRAMES = carousel(Block(bytes(range(32)), 0).encode())
TIMES = 300  # frames, and reports
SCAN = 0.3  # seconds until a scan has begun for certain
SCANS = 20
REPORTS = 200.0  # a second


@dataclass(frozen=True)
class Costs:
    """Processor seconds: of a frame put on air and taken off, of a scan begun and ended, of a report taken in."""

    frame: float
    scan: float
    report: float


def measure() -> Costs | None:
    """Measure for about half a minute; None where there is no dbus-daemon."""
    if sys.platform != "linux" or shutil.which("dbus-daemon") is None:
        return None
    with _stand_in(rate=0.0):
        frame, scan = asyncio.run(_frames_and_scans())
    with _stand_in(rate=REPORTS):
        return Costs(frame, scan, asyncio.run(_reports()))


async def _frames_and_scans() -> tuple[float, float]:
    from ble.bluez import BlueZRadio, BlueZSender  # Linux only

    sender = BlueZSender(None, Carriage().service)
    await sender.show(FRAMES[0])
    begun = time.process_time()
    for number in range(TIMES):
        await sender.hide()
        await sender.show(FRAMES[number % len(FRAMES)])
    frame = (time.process_time() - begun) / TIMES
    await sender.close()
    async with BlueZRadio(clock=SystemClock()) as radio:
        await _scan(radio)
        begun = time.process_time()
        for _ in range(SCANS):
            await _scan(radio)
        scan = (time.process_time() - begun) / SCANS
    await let_bleak_go()
    return frame, scan


async def _scan(radio: BlueZRadio) -> None:
    async with contextlib.aclosing(radio.sightings()) as sightings:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SCAN):
                await anext(sightings)


async def _reports() -> float:
    from ble.bluez import BlueZRadio  # Linux only

    async with BlueZRadio(clock=SystemClock()) as radio, contextlib.aclosing(radio.sightings()) as sightings:
        await anext(sightings)
        begun = time.process_time()
        for _ in range(TIMES):
            await anext(sightings)
        report = (time.process_time() - begun) / TIMES
    await let_bleak_go()
    return report


@contextlib.contextmanager
def _stand_in(rate: float) -> Iterator[None]:
    """A system bus for this process, and a BlueZ on it that reports so many advertisements a second."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        configuration = Path(name) / "bus.conf"
        configuration.write_text(CONFIGURATION.format(directory=name), "utf-8")
        daemon = ["dbus-daemon", f"--config-file={configuration}", "--print-address", "--nofork"]
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = _first_line(stack, daemon)
        stack.callback(os.environ.pop, "DBUS_SYSTEM_BUS_ADDRESS")
        _first_line(stack, [sys.executable, "-m", "scripts.benchmarks.bluez", str(rate)])
        yield


def _first_line(stack: contextlib.ExitStack, command: list[str]) -> str:
    process = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    )
    stack.callback(process.terminate)
    line = process.stdout.readline() if process.stdout else ""
    return line.strip()


async def stand_in(rate: float) -> None:
    """Be the BlueZ until terminated."""
    from dbus_fast import Variant  # Linux only

    from tests.ble.fake_bluez import FakeBlueZ

    bluez = FakeBlueZ()
    await bluez.start()
    print("ready", flush=True)
    service = Carriage().service
    for number in range(sys.maxsize):
        if rate:
            bluez.hear(-60, ServiceData={service: Variant("ay", FRAMES[number % len(FRAMES)].encode())})
        await asyncio.sleep(1 / rate if rate else 3600.0)


if __name__ == "__main__":
    asyncio.run(stand_in(float(sys.argv[1])))
