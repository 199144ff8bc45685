"""An agent in a process of its own, beside a peer two metres away: `python -m tests.agent.running FOLDER CLOCK`."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from agent import service
from agent.clock import Clock
from agent.service import Service
from agent.store import open_store
from ble.simulated import Air
from protocol.timescale import read_timescale
from tests.agent import joined


async def serve(folder: Path, clock: Clock) -> None:
    """Run both until killed."""
    air = Air(clock)
    chance = random.SystemRandom()
    mine = open_store(folder, "file")
    theirs = joined.make_store(folder.with_name("peer"))
    joined.join(theirs)
    curve = joined.world().curve
    async with asyncio.TaskGroup() as group:
        group.create_task(Service(mine, air.radio("agent", (0, 0)), curve, chance, clock).run())
        group.create_task(Service(theirs, air.radio("peer", (2, 0)), curve, chance, clock).run())


if __name__ == "__main__":
    service.FLUSH = 0.2
    asyncio.run(serve(Path(sys.argv[1]), Clock(read_timescale(sys.argv[2]))))
