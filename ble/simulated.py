"""The radio without hardware: many devices in one process, with distances and walls between them.

An `Air` has no task of its own. Whoever listens moves it on: it sleeps for one `tick`, then makes up every
advertisement of the time that has passed. A clock that runs 120 times too fast, or a machine too busy to wake
up in time, so costs some more advertisements at once and loses none.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ble.frame import SLICES, Frame, carousel
from ble.propagation import Place, Propagation, Wall
from ble.radio import Clock, Radio, RadioError, Reason, Sighting, SystemClock
from ble.rotation import DWELL, PAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Path: TypeAlias = Callable[[float], Place]  # Unix seconds → where a radio is at that time

CATCH_UP = 3600.0  # seconds; after a longer gap (a laptop asleep) what was sent before is lost
DELAY = 0.010  # seconds; a random wait before each advertisement (Core Specification, Vol 6, Part B, 4.4.2.2.1)
REGISTER = (0.05, 0.225)  # seconds that BlueZ 5.66 was seen to take until a frame is on air
SCAN_CYCLE = 10.24  # seconds; the kernel's DISCOV_LE_TIMEOUT: so often it forgets which addresses it has reported
RSSI_MAX = 20  # dBm; the most a controller reports (Core Specification, Vol 4, Part E, 7.7.65.2)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every radio in an air is subject to.

    interval: seconds between two advertisements of a radio (1.28 is BlueZ's own default)
    sensitivity: the weakest signal heard, dBm
    loss: share of the advertisements lost whatever their strength, 0 to 1
    tick: seconds between two looks at the clock
    queue: sightings kept for a listener that is slow to take them
    dwell: seconds a frame stays on air, under an address of its own; 0: each advertisement has another frame
    silence: seconds between two frames that dwell, at least and at most
    report: seconds within which a radio reports what it hears of one address only once
    """

    propagation: Propagation = field(default_factory=Propagation)
    walls: tuple[Wall, ...] = ()
    interval: float = 1.28
    sensitivity: float = -95.0
    loss: float = 0.1
    tick: float = 1.0
    queue: int = 4096
    dwell: float = 0.0
    silence: tuple[float, float] = PAUSE
    report: float = 0.0


AS_BLUEZ = Conditions(
    dwell=DWELL, silence=(PAUSE[0] + REGISTER[0], PAUSE[1] + REGISTER[1]), report=SCAN_CYCLE, loss=0.3
)
"""What BlueZ makes of the carousel, on both sides, with a loss that the field finds good: 30 to 70 % are usual."""


class Air:
    """What simulated radios share. Same seed, same calls at the same times: same sightings."""

    def __init__(self, clock: Clock | None = None, conditions: Conditions | None = None, *, seed: int = 0) -> None:
        """Make an empty air in which time is told by `clock` (the machine's, if None)."""
        self.clock = clock or SystemClock()
        self.conditions = conditions or Conditions()
        self._chance = random.Random(seed)  # noqa: S311 (a simulation, to be repeatable)
        self._places: dict[SimulatedRadio, Place | Path] = {}
        self._due: list[tuple[float, int, SimulatedRadio]] = []
        self._turn = itertools.count()  # breaks ties, so that radios are never compared

    def radio(self, name: str, place: Place | Path, *, tx_power: int = 0) -> SimulatedRadio:
        """Put a new radio into the air: at a place (metres), or on a path; it sends with `tx_power` dBm."""
        radio = SimulatedRadio(self, name, tx_power)
        self._places[radio] = place
        return radio

    def move(self, radio: SimulatedRadio, x: float, y: float) -> None:
        """Put a radio somewhere else (metres) from now on; one that was closed stays gone."""
        self.catch_up()
        if radio in self._places:
            self._places[radio] = (x, y)

    def place(self, radio: SimulatedRadio, at: float) -> Place:
        """Return where a radio is at a time (Unix seconds)."""
        place = self._places[radio]
        return place(at) if callable(place) else place

    def catch_up(self) -> None:
        """Send every advertisement that was due until now, in the order due."""
        now = self.clock.now()
        while self._due and self._due[0][0] <= now:
            at, _, radio = heapq.heappop(self._due)
            at = max(at, now - CATCH_UP)
            self._send(radio, radio.frame(at, self._chance), at)
            self._expect(radio, self._next(radio, at))

    def start(self, radio: SimulatedRadio) -> None:
        """Let a radio that fell silent send again, from a random moment of the coming interval on."""
        self._expect(radio, self.clock.now() + self._chance.uniform(0.0, self.conditions.interval))

    def stop(self, radio: SimulatedRadio) -> None:
        """Let a radio fall silent."""
        self._due = [entry for entry in self._due if entry[2] is not radio]
        heapq.heapify(self._due)

    def leave(self, radio: SimulatedRadio) -> None:
        """Take a radio out of the air."""
        self.catch_up()
        self.stop(radio)
        self._places.pop(radio, None)

    def _next(self, radio: SimulatedRadio, at: float) -> float:
        following = at + self.conditions.interval
        if not self.conditions.dwell or following < radio.until:
            return following
        return radio.until + self._chance.uniform(*self.conditions.silence)

    def _expect(self, radio: SimulatedRadio, at: float) -> None:
        at += self._chance.uniform(0.0, DELAY)
        heapq.heappush(self._due, (at, next(self._turn), radio))

    def _send(self, sender: SimulatedRadio, frame: Frame, at: float) -> None:
        for hearer in self._places:
            if hearer is sender or not hearer.listening:
                continue
            rssi = self._rssi(sender, hearer, at)
            arrives = rssi >= self.conditions.sensitivity and self._chance.random() >= self.conditions.loss
            if arrives and sender.is_news_to(hearer, at):
                hearer.hear(Sighting(at, frame, min(round(rssi), RSSI_MAX)))

    def _rssi(self, sender: SimulatedRadio, hearer: SimulatedRadio, at: float) -> float:
        model = self.conditions.propagation
        loss = model.loss(self.place(sender, at), self.place(hearer, at), self.conditions.walls)
        return sender.tx_power - model.faded(loss, self._chance)


class SimulatedRadio(Radio):
    """One device in an `Air`; made by `Air.radio`. It does not hear itself."""

    def __init__(self, air: Air, name: str, tx_power: int) -> None:
        self.name = name
        self._air = air
        self._tx_power = tx_power
        self._frames: tuple[Frame, ...] = ()
        self._order: list[int] = []
        self._shown: Frame | None = None
        self._told: dict[SimulatedRadio, float] = {}  # who reported the frame on air, and when
        self.until = -math.inf  # the frame on air is not sent any more from then on
        self._inboxes: list[deque[Sighting]] = []
        self._dropped = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<simulated radio {self.name}>"

    @property
    def tx_power(self) -> int:
        """The power it sends with, dBm."""
        return self._tx_power

    @property
    def dropped(self) -> int:
        """How many sightings were dropped because the queue was full."""
        return self._dropped

    @property
    def listening(self) -> bool:
        """Whether anyone takes its sightings."""
        return bool(self._inboxes)

    async def advertise(self, block: bytes | None) -> None:
        """Send the carousel of this 36-byte block, or fall silent. RadioError once closed, FrameError."""
        if self._closed:
            raise RadioError(Reason.FAILED, f"Radio {self.name} is closed: take a new one from the air.")
        frames = () if block is None else carousel(block)
        self._air.catch_up()  # what was due until now still carries the former block
        if frames and not self._frames:
            self._air.start(self)
        elif not frames:
            self._air.stop(self)
        self._frames, self._order, self.until = frames, [], -math.inf

    async def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame heard, from the first step of the iteration on; ends when the radio is closed."""
        self._air.catch_up()  # to hear from now on only
        inbox: deque[Sighting] = deque()
        self._inboxes.append(inbox)
        try:
            while not self._closed:
                while inbox:
                    yield inbox.popleft()
                await self._air.clock.sleep(self._air.conditions.tick)
                self._air.catch_up()
        finally:
            # By identity: two listeners' inboxes are equal whenever both are empty.
            self._inboxes = [other for other in self._inboxes if other is not inbox]

    async def close(self) -> None:
        """Leave the air."""
        if not self._closed:
            self._air.leave(self)
            self._closed = True
            self._frames = ()

    def frame(self, at: float, chance: random.Random) -> Frame:
        """Return the frame that is due at a time: all four in random order, then again in another."""
        if self._shown is None or at >= self.until:
            if not self._order:
                self._order = chance.sample(range(SLICES), SLICES)
            self._shown = self._frames[self._order.pop()]
            self.until = at + self._air.conditions.dwell
            self._told.clear()
        return self._shown

    def is_news_to(self, hearer: SimulatedRadio, at: float) -> bool:
        """Whether a hearer reports the frame on air, having received it; if so, it does not do so again soon."""
        if at - self._told.get(hearer, -math.inf) < self._air.conditions.report:
            return False
        self._told[hearer] = at
        return True

    def hear(self, sighting: Sighting) -> None:
        """Keep a sighting for whoever listens, or count it as dropped."""
        for inbox in self._inboxes:
            if len(inbox) < self._air.conditions.queue:
                inbox.append(sighting)
            else:
                self._dropped += 1
