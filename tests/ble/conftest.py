"""A system bus of the test's own, with a BlueZ on it that does as it is told."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ble.bluez import BlueZRadio
    from tests.ble.fake_bluez import FakeBlueZ

# Elsewhere there is no D-Bus library to import; so each fixture imports what it needs, too.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_bluez_*.py"]

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:dir={directory}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""


@pytest.fixture
def system_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A dbus-daemon that both sides take for the system's."""
    program = shutil.which("dbus-daemon")
    if program is None:
        pytest.fail("needs dbus-daemon: apt-get install dbus")
    configuration = tmp_path / "bus.conf"
    configuration.write_text(CONFIGURATION.format(directory=tmp_path), encoding="utf-8")
    command = [program, f"--config-file={configuration}", "--print-address", "--nofork"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", daemon.stdout.readline().strip())
        yield daemon
        daemon.terminate()


@pytest.fixture
async def bluez(system_bus: subprocess.Popen[str]) -> AsyncIterator[FakeBlueZ]:
    """A BlueZ with one adapter, hci0, that is on."""
    from tests.ble.fake_bluez import FakeBlueZ

    fake = FakeBlueZ()
    await fake.start()
    yield fake
    await let_bleak_go()
    await fake.stop()


async def let_bleak_go() -> None:
    """Close the connection that bleak keeps for each event loop and leaves open."""
    from bleak.backends.bluezdbus import manager

    kept = manager._global_instances.pop(asyncio.get_running_loop(), None)
    if kept is not None and kept._bus is not None and kept._bus_watcher_task is not None:
        kept._bus.disconnect()
        await asyncio.wait({kept._bus_watcher_task})


class Noon:
    """A clock that stands still."""

    def now(self) -> float:
        return 43200.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
async def radio(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlueZRadio]:
    """A radio on this BlueZ that is in a hurry."""
    from ble.bluez import BlueZRadio

    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.002))
    monkeypatch.setattr("ble.rotation.RETRY", 0.01)
    async with BlueZRadio(dwell=0.01, clock=Noon(), chance=random.Random(0)) as radio:
        yield radio
