"""A radio that mends itself as far as a program can, and tells since when it is deaf or mute.

The ladder, from what disturbs nobody to what may:

    a scan that ends with an error is started again, more and more slowly
    a scan in which nothing at all is heard for 90 s, not even a stranger's headphones, is started again: BlueZ stops
        listening at times and tells nobody; being alone looks the same, and costs a restart now and then
    the adapter is switched off and on, where the user allowed that: a keyboard may hang on it
    the user is told what to do, as every error's text ends with that

Sending is mended by `ble.rotation`, which registers each frame anew in any case; here it is only told. The model is
habluetooth's. Its parts were not taken: bluetooth-auto-recovery works through the kernel's management socket, USB
resets and /dev/rfkill, which need root, and through PyRIC, which is GPL and has no wheel. An agent runs without root;
what it may do, BlueZ offers over D-Bus.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ble.radio import Clock, Radio, RadioError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ble.radio import Sighting

SILENCE = 90.0  # seconds without any advertisement; BlueZ reports whoever is near every 10 s or so
LOOK = 1.0  # seconds between two looks at the radio
RETRY_FIRST = 1.0  # seconds after the first failure, then twice as long each time
RETRY_LAST = 16.0  # a radio that could work again does within so long and the 15 s that a start may take
STEADY = 20.0  # seconds after which a scan that did not fail hears, also where nobody is near; a start may take 15
PROMPT = 15.0  # seconds; what is heard so soon after a restart would have been heard before, had the scan worked
STUBBORN = 3  # failures in a row that are worth switching the adapter off and on
CYCLE_AGAIN = 600.0  # seconds until that may be tried again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which nothing was heard (deaf) or sent (mute). since, until: Unix seconds; what: and what to do."""

    kind: Literal["deaf", "mute"]
    since: float
    what: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How a radio is.

    deaf, mute: what is wrong now; last: what was wrong last, and was mended; quiet_since: Unix seconds, when the last
    advertisement of any kind was heard, if that is so long ago that the scan was restarted: alone, or deaf.
    """

    deaf: Trouble | None = None
    mute: Trouble | None = None
    last: Trouble | None = None
    quiet_since: float | None = None

    @property
    def problem(self) -> str:
        """What is wrong now, and what to do; empty if nothing is known to be."""
        trouble = self.mute or self.deaf
        return trouble.what if trouble else ""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do before the scan is started again: wait so many seconds, switch the adapter off and on."""

    wait: float = 0.0
    power_cycle: bool = False


class Ladder:
    """Which step comes next. Pure: told what happened, and when, in seconds of any clock that only goes forward."""

    def __init__(self, *, power_cycle: bool) -> None:
        self._allowed = power_cycle
        self._cycled: float | None = None
        self._failures = 0
        self._silences = 0

    def hears(self) -> None:
        """Something was heard: all is well."""
        self._failures = self._silences = 0

    def steady(self) -> None:
        """The scan has not failed for long; whether it hears is not known."""
        self._failures = 0

    def failed(self, reason: Reason, now: float) -> Step:
        """The scan ended with an error. An adapter that is off or away is nothing to switch."""
        self._failures += 1
        wait = min(RETRY_FIRST * 2.0 ** (min(self._failures, 10) - 1), RETRY_LAST)
        stubborn = reason is Reason.FAILED and self._failures >= STUBBORN
        return Step(wait, power_cycle=stubborn and self._may_cycle(now))

    def silent(self, now: float) -> Step:
        """Nothing at all was heard. Who stays alone after two restarts gets the adapter switched once, not for ever."""
        self._silences += 1
        return Step(power_cycle=self._silences == STUBBORN and self._may_cycle(now))

    def _may_cycle(self, now: float) -> bool:
        may = self._allowed and (self._cycled is None or now - self._cycled >= CYCLE_AGAIN)
        if may:
            self._cycled = now
        return may


class MonotonicClock:
    """Seconds that go on whatever the machine's clock is set to."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return once that many seconds have passed."""
        await asyncio.sleep(seconds)


class Watched(Radio):
    """Another radio, watched: its sightings go on whatever happens, and `health` tells what did."""

    def __init__(self, radio: Radio, clock: Clock, *, power_cycle: bool = False, timer: Clock | None = None) -> None:
        """clock: for the times that are told; timer: for those that are waited; power_cycle: allowed at all."""
        self._radio = radio
        self._clock = clock
        self._timer = timer or MonotonicClock()
        self._ladder = Ladder(power_cycle=power_cycle)
        self._refused: RadioError | None = None
        self._silence: RadioError | None = None
        self._unfailed = 0.0  # seconds of listening since the last failure, over all scans
        self._health = Health()

    @property
    def tx_power(self) -> int:
        """The power it is taken to send with, dBm."""
        return self._radio.tx_power

    @property
    def dropped(self) -> int:
        """How many sightings were dropped since the start because nobody took them in time."""
        return self._radio.dropped

    @property
    def trouble(self) -> RadioError | None:
        """Why nothing is sent at the moment, though a block should be."""
        return self._refused or self._radio.trouble

    @property
    def advertisements(self) -> int | None:
        """How many advertisements were heard, of any kind."""
        return self._radio.advertisements

    @property
    def health(self) -> Health:
        """How the radio is now."""
        self._look()
        return self._health

    async def advertise(self, block: bytes | None) -> None:
        """Send this 36-byte block; see `Radio.advertise`."""
        try:
            await self._radio.advertise(block)
            self._refused = None
        except RadioError as error:
            self._refused = error
            raise
        finally:
            self._look()
        if block is None:  # who is silent on purpose is neither mute nor deaf
            self._health = Health(last=self._health.last)

    async def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame heard. Raises no RadioError, but starts to listen again; ends when the radio is closed."""
        while True:
            guard = asyncio.create_task(self._guard(), name="watching the radio")
            try:
                async with aclosing(self._radio.sightings()) as sightings:
                    async for sighting in sightings:
                        if self._health.deaf:
                            self._hears()
                        yield sighting
            except RadioError as error:
                step = self._ended(error)
            else:
                return
            finally:
                guard.cancel()
                await asyncio.wait({guard})
            if step.power_cycle:
                await self.power_cycle()
            await self._timer.sleep(step.wait)

    def interrupt(self, error: RadioError) -> None:
        """Let the scan under way end, and begin anew."""
        self._radio.interrupt(error)

    async def power_cycle(self) -> None:
        """Switch the adapter off and on. What keeps it from that is logged."""
        _log.warning("switching the Bluetooth adapter off and on")
        try:
            await self._radio.power_cycle()
        except RadioError as error:
            _log.warning("the adapter could not be switched off and on: %s", error)

    async def close(self) -> None:
        """Close the radio."""
        await self._radio.close()

    async def _guard(self) -> None:
        """Look at the radio again and again, and end a scan that hears nothing."""
        begun = heard = self._timer.now()
        count = self._radio.advertisements
        while True:
            await self._timer.sleep(LOOK)
            self._look()
            now = self._timer.now()
            if self._radio.advertisements != count:
                count, heard = self._radio.advertisements, now
                self._hears(prompt=now - begun <= PROMPT)
            self._unfailed += LOOK
            if self._unfailed >= STEADY:
                self._end_deafness()
            if count is not None and now - heard >= SILENCE:
                self._silent(now - heard)
                return

    def _look(self) -> None:
        """Take note of whether it sends."""
        mute, error = self._health.mute, self.trouble
        if error is None and mute is not None:
            self._health = replace(self._health, mute=None, last=replace(mute, until=self._clock.now()))
        elif error is not None:
            since = mute.since if mute else self._clock.now()
            self._health = replace(self._health, mute=Trouble("mute", since, str(error)))

    def _ended(self, error: RadioError) -> Step:
        """Take note of the end of a scan."""
        now = self._timer.now()
        if error is self._silence:
            return self._ladder.silent(now)
        self._unfailed = 0.0
        deaf = self._health.deaf
        since = deaf.since if deaf else self._clock.now()
        self._health = replace(self._health, deaf=Trouble("deaf", since, str(error)))
        return self._ladder.failed(error.reason, now)

    def _silent(self, seconds: float) -> None:
        if self._health.quiet_since is None:
            _log.info("nothing heard for %.0f s, not even foreign devices: listening anew, now and then", seconds)
            self._health = replace(self._health, quiet_since=self._clock.now() - seconds)
        self._silence = RadioError(Reason.FAILED, f"Nothing was heard for {seconds:.0f} s: the scan is started anew.")
        self._radio.interrupt(self._silence)

    def _hears(self, *, prompt: bool = True) -> None:
        self._ladder.hears()
        self._end_deafness()
        quiet = self._health.quiet_since
        if quiet is not None:
            self._health = replace(self._health, quiet_since=None)
            if prompt:
                what = "Bluetooth had stopped listening without a word; the scan was started anew."
                self._health = replace(self._health, last=Trouble("deaf", quiet, what, self._clock.now()))

    def _end_deafness(self) -> None:
        self._ladder.steady()
        if deaf := self._health.deaf:
            self._health = replace(self._health, deaf=None, last=replace(deaf, until=self._clock.now()))
