"""A device without anything but the radio, for a guest: python -m scripts.ble_vm.device EPOCH_SECONDS [encounters].

Says what happens, a line each, until it is told to end:

    sent KEY_ID              a block is on air from now on
    heard KEY_ID RSSI        a frame
    whole KEY_ID             a frame of a block that is complete
    deaf SINCE WHAT          and mute; SINCE is 0 when it is over. Unix seconds
    encounter NUMBER SPAN    with `encounters`: one of those under way, as the agent counts them, lasts so many seconds
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from ble.assembly import Assembler
from ble.frame import Block, key_id
from ble.radio import RadioError, SystemClock, open_radio
from ble.watchdog import Watched

if TYPE_CHECKING:
    from ble.radio import Radio, Sighting

LOOK = 0.2  # seconds


class Device:
    """Sends a fresh block each epoch, and listens."""

    def __init__(self, radio: Radio, epoch: float) -> None:
        self.radio = Watched(radio, SystemClock())
        self._epoch = epoch
        self._assembler = Assembler()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._tell_health())
            while True:
                block = self.fresh()
                try:
                    await self.radio.advertise(block)
                except RadioError:  # which its health tells
                    await asyncio.sleep(1)
                    continue
                self.on_air(block)
                await asyncio.sleep(self._epoch)

    def fresh(self) -> bytes:
        """A block that was never on air."""
        return Block(os.urandom(32), self.radio.tx_power).encode()

    def on_air(self, block: bytes) -> None:
        """Take note that it is."""
        print("sent", key_id(block))

    def take(self, sighting: Sighting) -> None:
        """Take note of a frame."""
        print("heard", sighting.frame.key_id, sighting.rssi)
        if self._assembler.add(sighting.frame, sighting.at):
            print("whole", sighting.frame.key_id)

    async def _hear(self) -> None:
        async with contextlib.aclosing(self.radio.sightings()) as sightings:
            async for one in sightings:
                self.take(one)

    async def _tell_health(self) -> None:
        told = {"deaf": 0.0, "mute": 0.0}
        while True:
            health = self.radio.health
            for kind, trouble in (("deaf", health.deaf), ("mute", health.mute)):
                since = trouble.since if trouble else 0.0
                if since != told[kind]:
                    told[kind] = since
                    print(kind, round(since, 1), trouble.what if trouble else "")
            await asyncio.sleep(LOOK)


class Meeting(Device):
    """Counts encounters as the agent does."""

    def __init__(self, radio: Radio, epoch: float) -> None:
        # It takes an emulated machine seconds to import these, so only who wants encounters does.
        from agent.epochs import Epochs
        from agent.proximity import Proximity

        super().__init__(radio, epoch)
        self._epochs = Epochs(86400, radio.tx_power, os.urandom)
        self._own = self._epochs.fresh(time.time())
        self._proximity = Proximity(self._epochs)
        self._numbers: dict[bytes, int] = {}

    def fresh(self) -> bytes:
        """The block of a fresh key."""
        self._own = self._epochs.fresh(time.time())
        return self._own.block

    def on_air(self, block: bytes) -> None:
        """Take note that it is."""
        super().on_air(block)
        self._epochs.switch(self._own, time.time())

    def take(self, sighting: Sighting) -> None:
        """Take note of a frame, and of what it tells of encounters."""
        super().take(sighting)
        self._proximity.hear(sighting)
        for one in self._proximity.changed():
            number = self._numbers.setdefault(one.secret, len(self._numbers) + 1)
            print("encounter", number, round(one.span, 1))


async def _main(epoch: float, *, encounters: bool) -> None:
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_radio("bluez") as radio:
        await (Meeting if encounters else Device)(radio, epoch).run()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_main(float(sys.argv[1]), encounters="encounters" in sys.argv[2:]))
    print("ended")
