"""The main job on real parts: two machines with kernels and BlueZ of their own, `spot run` on each, a backend between.

At 1 m both get their signed contact records, one declares, the other is warned. At 20 m nobody is warned. What was on
the air was the carousel and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.clock import day_text
from backend_stub.authority import join as joining
from backend_stub.authority import report
from backend_stub.authority import service as authority
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy, changed
from backend_stub.operations.running import running
from backend_stub.operations.status import status
from protocol.encounter import day_of
from scripts.ble_vm import trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.guest import Guest
from tests.end_to_end.carousel import Packets, check_carousel, check_wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend_stub.operations.running import Backend
    from scripts.ble_vm.guest import Job

SPOT = str(Path(sys.executable).with_name("spot"))
HOST = "10.0.2.2"  # what the guests call this machine's loopback
PATIENCE = 240.0  # seconds; the guests are emulated, and this machine may be busy
# A short day: epochs of half a minute, submissions within seconds, a warning from half a minute on.
POLICY = {
    "limits.epoch": 30,
    "limits.minimum": 5,
    "limits.delay": 2,
    "limits.retry_first": 4,
    "limits.retry_last": 8,
    "limits.submission_gap": 0,
    "limits.declaration_gap": 0,
    "risk.warn_at": 0.5,
}
CONTACTS = 4
PUBLISH_EVERY = 2.0  # seconds
COMMAND_SECONDS = 120.0


@dataclass
class Device:
    """One machine with an agent on it."""

    guest: Guest
    folder: str
    outputs: list[str]

    async def spot(self, *words: str, code: int = 0) -> Any:
        """Run `spot`; returns its JSON where that was asked for."""
        result = await self.guest.run(
            [SPOT, "--data-dir", self.folder, *words], env={"SPOT_KEY": "file"}, within=COMMAND_SECONDS
        )
        self.outputs.append(result.stderr)
        assert result.code == code, result
        return json.loads(result.stdout) if "--json" in words else result.stdout

    async def start(self) -> Job:
        """Start `spot run`."""
        return await self.guest.start([SPOT, "--data-dir", self.folder, "run"], env={"SPOT_KEY": "file"})

    async def signed(self) -> int:
        """How many contacts are signed."""
        contacts = await self.spot("contacts", "--json")
        return sum(one["state"] == "signed" for one in contacts)

    async def warned(self) -> bool:
        """Whether the agent warns, after a sync."""
        await self.spot("sync", "--json")
        return bool((await self.spot("exposure", "--json"))["warned"])


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Backend]:
    """A backend on this machine's loopback, whose addresses are those that the guests see."""
    plan = Plan(
        port=0,
        tls=False,
        public_url=f"http://{HOST}:{{port}}",
        policy=changed(Policy(), POLICY),
        publish_every=PUBLISH_EVERY,
        pool_wait=0.2,
    )
    await found(folder, plan)
    async with running(folder) as backend:
        yield backend


async def invitations(folder: Path, count: int) -> list[str]:
    """What `spot-backend invite` prints."""
    async with authority.opened(folder / "authority") as office:
        return await joining.invite(office, count)


async def report_code(folder: Path) -> str:
    """What `spot-backend code` prints for symptoms that began today."""
    async with authority.opened(folder / "authority") as office:
        return await report.make_code(office, day_of(time.time()), 86400)


async def join(devices: tuple[Device, ...], folder: Path, url: str) -> None:
    """Have each device join with an invitation of its own."""
    codes = await invitations(folder, len(devices))
    pairs = zip(devices, codes, strict=True)
    await asyncio.gather(*(device.spot("join", url, "--invite", code, "--yes", "--json") for device, code in pairs))


async def meet(devices: tuple[Device, ...], folder: Path) -> None:
    """Run the agents side by side until the server has signed CONTACTS contacts for both.

    That is seen at the server, as a command takes the emulated guests ten seconds and more.
    """
    before = (await status(folder))["server"]["signed"]
    end = time.monotonic() + PATIENCE
    jobs = [await device.start() for device in devices]
    while (await status(folder))["server"]["signed"] < before + 2 * CONTACTS:
        assert time.monotonic() < end, [job.stderr for job in jobs]
        assert all(job.running for job in jobs), [job.stderr for job in jobs]
        await asyncio.sleep(1)
    await asyncio.sleep(2 * POLICY["limits.retry_last"])  # whoever submitted first asks again
    for device, job in zip(devices, jobs, strict=True):
        result = await job.stop()
        device.outputs.append(result.stderr)
        assert result.code == 0, result
        assert "WARNING" not in result.stderr, result.stderr
    # The last one may be signed for one side only, if the other was too slow to ask again.
    assert min(await asyncio.gather(*(device.signed() for device in devices))) >= CONTACTS - 1


@pytest.mark.timeout(1500)
async def test_two_machines_meet_and_one_is_warned(tmp_path: Path, keep_output: list[str]) -> None:
    backend_folder = tmp_path / "backend"
    async with (
        serving(backend_folder) as backend,
        Air(trace_dir=tmp_path, seed=7, distance=1.0, loss=0.3) as air,
        Guest("a", air) as first,
        Guest("b", air) as second,
    ):
        a, b = devices = (Device(first, "/tmp/near", keep_output), Device(second, "/tmp/near", keep_output))
        await join(devices, backend_folder, backend.authority.replace("127.0.0.1", HOST))
        await meet(devices, backend_folder)

        receipt = await a.spot("declare", await report_code(backend_folder), "--yes", "--json")
        assert receipt["accepted"]
        assert receipt["contacts"] >= 1
        await asyncio.sleep(2 * PUBLISH_EVERY)
        assert await b.warned()
        exposure = await b.spot("exposure", "--json")
        (day,) = exposure["days"]
        assert day["day"] in (day_text(day_of(time.time())), day_text(day_of(time.time()) - 1))
        assert day["minutes"] >= 0.5
        assert day["risk"] >= 0.5
        assert not await a.warned()

        # The same again, too far away to matter.
        air.distance, air.loss = 20.0, 0.3
        a, b = devices = (Device(first, "/tmp/far", keep_output), Device(second, "/tmp/far", keep_output))
        await join(devices, backend_folder, backend.authority.replace("127.0.0.1", HOST))
        await meet(devices, backend_folder)
        refused = await a.spot("declare", await report_code(backend_folder), "--yes", "--json", code=2)
        assert refused["error"] == "misuse"
        assert not any(await asyncio.gather(a.warned(), b.warned()))

    log = trace.sent((tmp_path / "air.jsonl").read_text())
    assert {packet.by for packet in log} == {"a", "b"}
    for name in "ab":
        packets: Packets = [packet for packet in log if packet.by == name]
        turns = check_carousel(packets)
        assert len(turns) >= 4, "several epochs were on air"
        assert all(len(list(group)) == 1 for _, group in itertools.groupby(sorted(turns)))
    check_wires(tmp_path, log)
