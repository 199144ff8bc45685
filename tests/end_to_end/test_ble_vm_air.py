"""The Linux radio under real BlueZ: two virtual machines, one on each side of air that the test owns."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ble.carriage import SERVICE_UUID
from ble.frame import Frame
from scripts.ble_vm import image, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.ble_vm.guest import Job

ROOT = Path(__file__).parents[2]
EPOCH = 9  # seconds that a block is sent; its four frames take 7
# Says what it sends and what it hears, until it is told to end: a device without anything but the radio.
DEVICE = """
import asyncio, contextlib, os, signal, sys
from ble.assembly import Assembler
from ble.frame import Block, key_id
from ble.radio import open_radio

async def hear(radio, assembler=Assembler()):
    async with contextlib.aclosing(radio.sightings()) as sightings:
        async for one in sightings:
            print("heard", one.frame.key_id, one.rssi)
            if assembler.add(one.frame, one.at):
                print("whole", one.frame.key_id)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with open_radio("bluez") as radio, asyncio.TaskGroup() as tasks:
        tasks.create_task(hear(radio))
        while True:
            block = Block(os.urandom(32), radio.tx_power).encode()
            await radio.advertise(block)
            print("sent", key_id(block), radio.trouble)
            await asyncio.sleep(float(sys.argv[1]))

with contextlib.suppress(asyncio.CancelledError):
    asyncio.run(main())
print("ended")
"""


def said(job: Job, word: str) -> list[list[str]]:
    """The lines that begin with this word, without it."""
    return [line.split()[1:] for line in job.stdout.splitlines() if line.startswith(word)]


async def hears_whole(listener: Job, speaker: Job, block: int) -> None:
    """Wait until the one has heard the other's so-manieth block."""
    await speaker.printed(rf"(sent[^§]*){{{block}}}", within=60)
    await listener.printed(rf"whole {said(speaker, 'sent')[block - 1][0]}\b", within=60)


def frame(packet: trace.Sent) -> Frame:
    """The frame in a packet, which must hold nothing besides but the flag that there is no classic Bluetooth."""
    found = re.fullmatch(rb"(?:\x02\x01[\x04\x06])?\x13\x16(..)(.{16})", packet.data, re.DOTALL)
    assert found is not None, packet
    assert int.from_bytes(found[1], "little") == SERVICE_UUID
    return Frame.decode(found[2])


def check_rotation(packets: Sequence[trace.Sent], blocks: Sequence[int]) -> None:
    """What one device sent: its blocks' frames in turn, every time under a new address, and nothing else."""
    assert {one.kind for one in packets} == {"ADV_NONCONN_IND"}
    assert {one.address_type for one in packets} == {"random"}
    assert all(int(one.address[:2], 16) < 0x40 for one in packets), "an address can be resolved"
    shown = list(dict.fromkeys((one.address, frame(one)) for one in packets))
    addresses = [address for address, _ in shown]
    assert len(set(addresses)) == len(addresses), "an address carried two frames"
    # Without repetition: a key id that came back after another one would be there twice.
    turns = [
        one.key_id for number, (_, one) in enumerate(shown) if not number or one.key_id != shown[number - 1][1].key_id
    ]
    assert turns == list(blocks)


def check_wires(folder: Path, log: Sequence[trace.Sent]) -> None:
    """What the air says was sent and heard is what the hosts ordered, and what the adapters reported."""
    for here in "ab":
        wire = trace.packets((folder / f"{here}.btsnoop").read_bytes())
        ordered = {(one.address, one.data) for one in trace.ordered(wire)}
        assert {(one.address, one.data) for one in log if one.by == here} <= ordered
        arrived = {(one.address, one.data, one.heard[here]) for one in log if here in one.heard}
        assert {(one.address, one.data, one.rssi) for one in trace.reported(wire)} <= arrived


@pytest.mark.timeout(300)
async def test_two_machines_meet_part_and_leave_nothing_behind_but_the_carousel(tmp_path: Path) -> None:
    pytest.importorskip("bumble")
    try:
        image.check_host()
    except image.VmError as error:
        pytest.skip(str(error))
    from scripts.ble_vm.air import Air
    from scripts.ble_vm.guest import Guest

    def log() -> list[trace.Sent]:
        return trace.sent((tmp_path / "air.jsonl").read_text())

    async with Air(trace_dir=tmp_path, seed=1) as air, Guest("a", air) as a, Guest("b", air) as b:
        command = [sys.executable, "-c", DEVICE, str(EPOCH)]
        one, other = [await guest.start(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) for guest in (a, b)]
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
        blocks = {name: [int(key) for key, _ in said(job, "sent")] for name, job in (("a", one), ("b", other))}

    for name in "ab":
        check_rotation([packet for packet in log() if packet.by == name], blocks[name])
    check_wires(tmp_path, log())
