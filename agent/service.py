"""The running agent: is on air, turns what it hears into encounters, keeps them, and syncs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock, Timeout

from agent.days import Days
from agent.epochs import Epochs
from agent.keeping import Keeper
from agent.notify import Nobody
from agent.proximity import Proximity
from agent.sync import Progress, Sync
from ble.duty import MAINS, listen_by
from ble.radio import RadioError
from ble.watchdog import Health, Watched
from protocol import encounter
from protocol.errors import Busy, SpotError, StorageError

if TYPE_CHECKING:
    import random as chances
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.clock import Clock
    from agent.notify import Manager
    from agent.store import Store
    from ble.duty import Duty
    from ble.radio import Radio
    from protocol.curve import Curve
    from protocol.messages import Limits

LOG = logging.getLogger(__name__)

LOCK = "run.lock"
# The machine's own seconds, whatever the agent's clock does:
FLUSH = 2.0  # a crash loses at most the sightings of so long
CONTROL = 1.0  # how soon pause, resume and leave are noticed
SYNC_POLL = 5.0  # how soon contacts that another process made due are noticed
BEAT = 30.0  # how often a status that stays the same is written again
FOLD = 30.0  # the store's log tells at most how busy so long was
RADIO_RETRY_FIRST = 1.0
RADIO_RETRY_LAST = 16.0
PROBE = 1.0  # how long to wait for who only asks whether an agent is running
# The agent's own seconds:
CLOCK_CHECK = 10.0  # how soon a clock that was set, or a machine that slept, is noticed

PAUSED = "paused"  # names in the store
STOP = "stop"
SERVICE = "service"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the running agent says of itself. Times: seconds since 1970.

    peers: heard within the last minute, and round of listening; duty: "mains" or "battery"
    unread: heard then, and for as long as an encounter must last, but never well enough to make out who it was
    unkept, lost: encounters that the disk did not take yet, and that memory had no room for meanwhile
    crowded: encounters that were left out, as more were heard at once than can be submitted
    """

    pid: int
    started: float
    beat: float
    on_air: bool = False
    peers: int = 0
    unread: int = 0
    encounters: int = 0
    dropped: int = 0
    duty: str = MAINS.name
    health: Health = Health()
    unkept: int = 0
    lost: int = 0
    crowded: int = 0
    disk_problem: str = ""

    @property
    def radio_problem(self) -> str:
        """What is wrong with the radio now, and what to do; empty if nothing is known to be."""
        return self.health.problem


@contextlib.contextmanager
def running_lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the folder for one running agent. Raises Busy where another one still does after `patience` seconds."""
    lock = FileLock(folder / LOCK, timeout=patience, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"an agent is already running on {folder}; stop it first, or choose another --data-dir") from None
    except OSError as error:
        raise StorageError(f"{folder} cannot be written to ({error.strerror}); free some disk or mend it") from None
    try:
        yield
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Whether an agent is running on this folder."""
    try:
        with running_lock(folder):
            return False
    except Busy:
        return True


class Service:
    """One agent at work on one data folder."""

    def __init__(
        self,
        store: Store,
        radio: Radio,
        curve: Curve,
        chance: chances.Random,
        clock: Clock,
        *,
        power_cycle: bool = False,
        manager: Manager | None = None,
    ) -> None:
        """chance: a cryptographic source; power_cycle: whether a stuck radio may be switched off and on.

        The radio stays the caller's to close.
        """
        self._store = store
        self._radio = Watched(radio, clock, power_cycle=power_cycle)
        self._chance = chance
        self._clock = clock
        self._sync = Sync(curve, chance, store, clock)
        self.progress = Progress()
        self._manager: Manager = manager or Nobody()
        self._started = clock.now()
        self._radio_problem = ""
        self._said: ServiceStatus | None = None
        self._duty = MAINS

    async def run(self, correction: float = 0.0, duty: Callable[[], Duty] = lambda: MAINS) -> None:
        """Work until cancelled, or until `spot leave`. Raises Busy, NotJoined.

        correction: dB added to every attenuation; duty: how to listen, asked again and again
        """
        with running_lock(self._store.folder, PROBE):
            self._store.put(STOP, None)
            self._known_limits = limits = self._sync.account.parameters.limits
            self._epochs = Epochs(limits.epoch, self._radio.tx_power)
            self._proximity = Proximity(self._epochs, correction)
            self._keeper = Keeper(self._store, self._proximity, self._limits, self._chance, self._clock)
            self._keeper.recover()
            self._days = Days(self._store)
            self._find_duty = duty
            LOG.info("running; epoch %d s", limits.epoch)
            poll = SYNC_POLL if self._clock.scale.speed == 1 else CONTROL
            try:
                async with asyncio.TaskGroup() as group:
                    beside = [
                        group.create_task(self._sync.keep_up(line, self.progress, poll)) for line in self._sync.lines
                    ]
                    beside += [group.create_task(self._fold_forever()), group.create_task(self._forget_forever())]
                    await self._control()
                    for task in beside:
                        task.cancel()
            finally:
                self._manager.stopping()
                with contextlib.suppress(SpotError):
                    self._store.put(SERVICE, None)
            LOG.info("stopped")

    async def _control(self) -> None:
        """Be on air unless paused, until told to stop."""
        async with asyncio.TaskGroup() as group:
            on_air: asyncio.Task[None] | None = None
            while not self._read(STOP):
                paused = self._read(PAUSED)
                if paused and on_air is not None:
                    LOG.info("paused")
                    on_air.cancel()
                    await asyncio.wait([on_air])
                    on_air = None
                elif not paused and on_air is None:
                    on_air = group.create_task(self._on_air())
                self._say(on_air=on_air is not None)
                await asyncio.sleep(CONTROL)
            if on_air is not None:
                on_air.cancel()

    def _read(self, flag: str) -> bool:
        try:
            return bool(self._store.get(flag, bool))
        except SpotError:
            return False  # a store that cannot be read now is told by whoever writes

    # --- on air ---

    async def _on_air(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._broadcast())
                group.create_task(
                    listen_by(self._ask_duty, self._listen, self._proximity.is_completing, self._clock, self._chance)
                )
                group.create_task(self._flush_forever())
        finally:
            self._epochs.switch(None, self._clock.now())
            self._keeper.keep(self._epochs.destroy_all())
            with contextlib.suppress(RadioError):
                await self._radio.advertise(None)

    async def _broadcast(self) -> None:
        """A fresh key each epoch: all devices change at once, address and EBID together."""
        retry = RADIO_RETRY_FIRST
        while True:
            self._epochs.length = self._limits().epoch  # new parameters may have come
            own = self._epochs.fresh(self._clock.now())
            try:
                await self._radio.advertise(own.block)
            except RadioError:  # which the radio's health tells
                self._epochs.switch(None, self._clock.now())
                await asyncio.sleep(retry)
                retry = min(retry * 2, RADIO_RETRY_LAST)
                continue
            retry = RADIO_RETRY_FIRST
            self._epochs.switch(own, self._clock.now())
            while own.covers(now := self._clock.now()):
                await self._clock.sleep(min(own.ends - now, CLOCK_CHECK))

    async def _listen(self) -> None:
        async with aclosing(self._radio.sightings()) as sightings:
            async for sighting in sightings:
                self._proximity.hear(sighting)

    def _ask_duty(self) -> Duty:
        duty = self._find_duty()
        if duty != self._duty:
            LOG.info("listening as on %s", duty.name)
        self._duty = duty
        return duty

    def _note_radio(self, problem: str) -> None:
        if problem != self._radio_problem:
            self._radio_problem = problem
            if problem:
                LOG.warning("radio: %s", problem)
            else:
                LOG.info("radio: works again")

    # --- keeping ---

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            now = self._clock.now()
            self._keeper.keep(self._epochs.destroy(now))
            self._proximity.expire(now)

    async def _forget_forever(self) -> None:
        """Forget what is too old; also while paused."""
        while True:
            await asyncio.sleep(FLUSH)
            with contextlib.suppress(SpotError):  # tried again the next time
                self._keeper.forget(self._days.come(encounter.day_of(self._clock.now()), self._steady()))

    def _steady(self) -> float:
        """Seconds that go on whoever sets the clock."""
        return time.monotonic() * self._clock.scale.speed

    async def _fold_forever(self) -> None:
        while True:
            await asyncio.sleep(FOLD)
            with contextlib.suppress(SpotError):  # the disk's problems are told by whoever writes encounters
                self._store.fold()

    def _limits(self) -> Limits:
        """The limits in force; those known before while the store cannot be read."""
        with contextlib.suppress(SpotError):
            self._known_limits = self._sync.account.parameters.limits
        return self._known_limits

    def _say(self, *, on_air: bool) -> None:
        now = self._clock.now()
        health = self._radio.health
        lately = now - 60 - self._duty.round
        self._note_radio(health.problem)
        status = ServiceStatus(
            pid=os.getpid(),
            started=self._started,
            beat=now,
            on_air=on_air and self._epochs.on_air(now) is not None and not health.problem,
            peers=self._proximity.peers(lately),
            unread=self._proximity.unread(lately, self._known_limits.minimum),
            duty=self._duty.name,
            encounters=len(self._proximity),
            dropped=self._radio.dropped,
            health=health,
            unkept=self._keeper.unkept,
            lost=self._keeper.lost,
            crowded=self._keeper.crowded,
            disk_problem=self._keeper.disk_problem,
        )
        problem = self._radio_problem or status.disk_problem
        self._manager.tell(on_air=status.on_air, paused=not on_air, problem=problem)
        said = self._said
        if said is not None and status == msgspec.structs.replace(said, beat=now) and now - said.beat < BEAT:
            return  # a memory card wears out
        with contextlib.suppress(SpotError):
            self._store.put(SERVICE, status)
            self._said = status
