"""The carousel on air: one frame at a time, each under an address of its own, for radios that are real.

The frames of a block go round in random order, with a random silence between two. Addresses of one block are tied
together by its key id in any case; the silence is for the change of blocks, so that the old and the new do not follow
each other like clockwork. Whatever goes wrong on the way is tried again, more and more slowly, and can be read in
`trouble` meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Protocol

from ble.frame import Frame, carousel
from ble.radio import RadioError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Seconds a frame stays on air. BlueZ advertises every 1.28 s (plus up to 10 ms of jitter) where nothing else
# is asked for, so within 1.5 s a frame is sent twice, and the block needs about 7 s to go round.
DWELL = 1.5
PAUSE = (0.05, 0.25)  # seconds of silence between two frames, at least and at most
RETRY = 2.0  # seconds after the first failure, then twice as long each time
RETRY_MAX = 16.0

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """What puts a single frame on air; one a platform."""

    async def show(self, frame: Frame) -> None:
        """Broadcast this frame under a fresh address. Raises RadioError, and nothing is on air then."""

    async def hide(self) -> None:
        """Take the frame off the air. Raises nothing: whatever it takes, nothing is on air afterwards."""


class Rotation:
    """Keeps the carousel of one block turning."""

    def __init__(self, sender: Sender, *, dwell: float = DWELL, chance: random.Random | None = None) -> None:
        """Rotate on this sender, `dwell` seconds (above 0) a frame."""
        if dwell <= 0:
            raise ValueError("a frame stays on air for more than 0 seconds")
        self._sender = sender
        self._dwell = dwell
        self._chance = chance or random.SystemRandom()
        self._turning = asyncio.Lock()
        self._halt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.trouble: RadioError | None = None

    async def turn_to(self, block: bytes | None) -> None:
        """Send this 36-byte block in place of the former one; None: nothing.

        Returns once its first frame is on air. Raises FrameError, and the former block goes on; or RadioError, and
        nothing is on air.
        """
        frames = () if block is None else carousel(block)
        async with self._turning:
            await self._fall_silent()
            if frames:
                order = self._orders(frames)
                await asyncio.sleep(self._chance.uniform(*PAUSE))
                await self._sender.show(next(order))
                self._task = asyncio.create_task(self._turn(order), name="advertising")

    async def _fall_silent(self) -> None:
        # The task is asked to end, not cancelled: in the middle of a call nobody knows what is on air.
        task, self._task = self._task, None
        self._halt.set()
        try:
            if task is not None:
                await task
        finally:
            self._halt.clear()
            self.trouble = None
            await self._sender.hide()

    async def _turn(self, order: Iterator[Frame]) -> None:
        failures = 0
        while not await self._halted(self._wait(failures)):
            try:
                await self._sender.hide()
                if await self._halted(self._chance.uniform(*PAUSE)):
                    return
                await self._sender.show(next(order))
            except RadioError as error:
                failures += 1
                self._note(error)
            else:
                failures, self.trouble = 0, None

    def _note(self, error: RadioError) -> None:
        if self.trouble is None:  # once a trouble, not once a try
            _log.warning("nobody can hear this device, trying again: %s", error)
        self.trouble = error

    def _wait(self, failures: int) -> float:
        return min(RETRY * 2 ** min(failures - 1, 8), RETRY_MAX) if failures else self._dwell

    def _orders(self, frames: Sequence[Frame]) -> Iterator[Frame]:
        while True:
            yield from self._chance.sample(frames, len(frames))

    async def _halted(self, seconds: float) -> bool:
        """Wait; True as soon as the rotation is to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._halt.wait()
        except TimeoutError:
            return False
        return True
