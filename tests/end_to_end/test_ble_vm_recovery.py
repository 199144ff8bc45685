"""A radio that mends itself: faults of Bluetooth on a Linux machine, one after the other, under real BlueZ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.ble_vm import faults, linkage, trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant
from scripts.ble_vm.guest import Guest
from tests.end_to_end.carousel import check_wires

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "scripts.ble_vm.device", "3600", "encounters"]
DOWN = 3.0  # seconds that a fault lasts
MENDED = 60.0  # seconds, at most


@pytest.mark.timeout(420)
async def test_every_fault_is_noticed_and_mended_in_the_same_epoch_and_encounter(tmp_path: Path) -> None:
    # Without extended advertising, a controller is sooner told to send new data under an old address.
    async with (
        Air(trace_dir=tmp_path, seed=1) as air,
        Guest("a", air, variant=Variant.LEGACY) as a,
        Guest("b", air) as b,
    ):
        device, peer = [await guest.start(COMMAND, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) for guest in (a, b)]
        for job in (device, peer):
            await job.printed(r"encounter 1 ", within=90)
        for fault in (faults.KILLED, faults.SWITCHED, faults.UNPLUGGED, faults.BUS):
            mending = await faults.watch_mending(fault, a, device, peer, air, lasts=DOWN)
            assert mending.deaf is not None, mending
            assert mending.mended < MENDED, mending
            # bleak's last call on a bus that has ended leaves dbus-fast with an error that nobody can take.
            assert fault is faults.BUS or "Traceback" not in device.stderr, device.stderr
        blocks = {}
        for name, job in (("a", device), ("b", peer)):
            result = await job.stop()
            assert result.code == 0
            blocks[name] = [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("sent")]
            assert len(blocks[name]) == 1, "the epoch goes on"
            encounters = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("encounter")}
            assert encounters == {"1"}, "the encounter goes on"

    log = trace.sent((tmp_path / "air.jsonl").read_text())
    for name in "ab":
        packets = [packet for packet in log if packet.by == name]
        assert linkage.violations(packets) == []
        assert linkage.turns(linkage.shown(packets)) == blocks[name]
    check_wires(tmp_path, log)
