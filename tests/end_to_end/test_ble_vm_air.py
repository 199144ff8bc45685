"""The Linux radio under real BlueZ: two virtual machines, one on each side of air that the test owns."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.ble_vm import trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant
from scripts.ble_vm.guest import Guest
from tests.end_to_end.carousel import check_carousel, check_wires

if TYPE_CHECKING:
    from scripts.ble_vm.guest import Job

ROOT = Path(__file__).parents[2]
EPOCH = 9  # seconds that a block is sent; its four frames take 7
COMMAND = [sys.executable, "-m", "scripts.ble_vm.device", str(EPOCH)]


def said(job: Job, word: str) -> list[list[str]]:
    """The lines that begin with this word, without it."""
    return [line.split()[1:] for line in job.stdout.splitlines() if line.startswith(word)]


async def hears_whole(listener: Job, speaker: Job, block: int) -> None:
    """Wait until the one has heard the other's so-manieth block."""
    await speaker.printed(rf"(sent[^§]*){{{block}}}", within=60)
    await listener.printed(rf"whole {said(speaker, 'sent')[block - 1][0]}\b", within=60)


@pytest.mark.timeout(300)
async def test_two_machines_meet_part_and_leave_nothing_behind_but_the_carousel(tmp_path: Path) -> None:
    def log() -> list[trace.Sent]:
        return trace.sent((tmp_path / "air.jsonl").read_text())

    # One controller of each kind: with extended advertising, and without.
    async with (
        Air(trace_dir=tmp_path, seed=1) as air,
        Guest("a", air) as a,
        Guest("b", air, variant=Variant.LEGACY) as b,
    ):
        one, other = [await guest.start(COMMAND, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) for guest in (a, b)]
        for block in (1, 2):
            await hears_whole(one, other, block)
            await hears_whole(other, one, block)
        assert {int(rssi) for _, rssi in said(other, "heard")} <= set(range(-50, -30))

        air.distance = math.inf
        await asyncio.sleep(0.5)  # what is still on its way through the guest
        before, count = len(said(other, "heard")), len(log())
        await asyncio.sleep(4)
        assert len(said(other, "heard")) == before
        assert len(log()) > count, "it went on sending"

        air.distance, air.loss = 20.0, 0.7
        before, count = len(said(other, "heard")), len(log())
        await other.printed(rf"(heard[^§]*){{{before + 1}}}", within=40)
        await asyncio.sleep(4)
        far = [packet for packet in log()[count:] if packet.by == "a"]
        assert said(other, "heard")[-1][1] in {str(rssi) for rssi in range(-75, -53)}
        assert not all("b" in packet.heard for packet in far)

        for job in (one, other):
            result = await job.stop()
            assert result.code == 0
            assert result.stdout.endswith("ended\n")
            assert not result.stderr
        count = len(log())
        await asyncio.sleep(2)
        assert len(log()) == count, "it is silent once it has ended"
        blocks = {name: [int(key) for (key,) in said(job, "sent")] for name, job in (("a", one), ("b", other))}

    for name in "ab":
        assert check_carousel([packet for packet in log() if packet.by == name]) == blocks[name]
    check_wires(tmp_path, log())
