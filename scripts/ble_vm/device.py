"""A device without anything but the radio, for a guest: python -m scripts.ble_vm.device EPOCH_SECONDS.

Says what it sends and what it hears, a line each, until it is told to end:

    sent KEY_ID              a block is on air from now on
    heard KEY_ID RSSI        a frame
    whole KEY_ID             a frame of a block that is complete
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from ble.assembly import Assembler
from ble.frame import Block, key_id
from ble.radio import Radio, open_radio


async def _hear(radio: Radio) -> None:
    assembler = Assembler()
    async with contextlib.aclosing(radio.sightings()) as sightings:
        async for one in sightings:
            print("heard", one.frame.key_id, one.rssi)
            if assembler.add(one.frame, one.at):
                print("whole", one.frame.key_id)


async def _main(epoch: float) -> None:
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_radio("bluez") as radio, asyncio.TaskGroup() as tasks:
        tasks.create_task(_hear(radio))
        while True:
            block = Block(os.urandom(32), radio.tx_power).encode()
            await radio.advertise(block)
            print("sent", key_id(block), flush=True)
            await asyncio.sleep(epoch)


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_main(float(sys.argv[1])))
    print("ended")
