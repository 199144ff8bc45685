"""Where attackers of the radio stand: people with agents at places, and antennas that hear and send what they like.

Devices and people run the agent's own code on frames; only the waves are made up, by `ble.propagation`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from agent.epochs import Epochs
from agent.kept import State
from agent.proximity import Proximity
from ble.frame import carousel
from ble.propagation import Place, Propagation
from ble.radio import Sighting
from tests.end_to_end.people import NOON, JumpingClock, Person

if TYPE_CHECKING:
    from agent.epochs import OwnEpoch
    from agent.kept import Encounter
    from ble.frame import Frame

STEP = 2.0  # seconds between two frames of a device
SENSITIVITY = -95.0  # dBm
EPOCH = 900
FAR = 1000.0  # metres; nobody hears anybody
NEAR: Place = (0.0, 0.0)
FAR_AWAY: Place = (FAR, 0.0)
MINUTE = 60.0


class Walker(Protocol):
    """Whoever has a radio and an agent's ears: a Person, or a Device that joined nothing."""

    epochs: Epochs
    proximity: Proximity


@dataclass(eq=False)
class Device:
    """An agent's radio side alone; `encounters` are kept when the street's time is over."""

    clock: JumpingClock
    epochs: Epochs
    proximity: Proximity
    encounters: list[Encounter] = field(default_factory=list)

    @property
    def secrets(self) -> set[bytes]:
        """E of every encounter long enough to be submitted."""
        return {one.secret for one in self.encounters if one.span >= MINUTE}


def device(clock: JumpingClock, seed: int = 0, *, tx_power: int = 0, epoch: int = EPOCH) -> Device:
    """A device with keys from a seed."""
    epochs = Epochs(epoch, tx_power, random.Random(seed).randbytes)
    return Device(clock, epochs, Proximity(epochs))


@dataclass(frozen=True)
class Caught:
    """A frame that an antenna received, and how strongly (dBm)."""

    at: float
    frame: Frame
    rssi: float


Strategy: TypeAlias = Callable[["Antenna", float], None]


@dataclass(eq=False)
class Antenna:
    """An attacker's radio: hears with a gain (dB), sends any frame with any power (dBm) at any time."""

    place: Place
    act: Strategy = lambda antenna, at: None
    gain: float = 0.0
    caught: list[Caught] = field(default_factory=list)
    _air: list[tuple[Frame, float]] = field(default_factory=list)

    def send(self, frame: Frame, power: float = 0.0) -> None:
        """Put a frame on the air in this step."""
        self._air.append((frame, power))

    def take(self) -> list[tuple[Frame, float]]:
        """What is to be sent now."""
        sent, self._air = self._air, []
        return sent


class Street:
    """Time and waves for everybody on it."""

    def __init__(self, clock: JumpingClock | None = None, *, loss: float = 0.0, seed: int = 0) -> None:
        self.clock = clock or JumpingClock()
        self.antennas: list[Antenna] = []
        self._places: dict[Walker, Place] = {}
        self._on_air: dict[Walker, OwnEpoch] = {}
        self._believed: dict[Walker, int] = {}
        self._turn = 0
        self._loss = loss
        self._chance = random.Random(seed)
        self._propagation = Propagation(fading=0.0)

    def put(self, walker: Walker, place: Place) -> None:
        """Place somebody, from now on."""
        self._places[walker] = place

    def believe(self, walker: Walker, days: int) -> None:
        """Have somebody's device be off by so many days."""
        self._believed[walker] = days

    def on_air(self, walker: Walker) -> OwnEpoch:
        """What somebody broadcasts now."""
        return self._on_air[walker]

    def attack(self, place: Place, act: Strategy = lambda antenna, at: None, *, gain: float = 0.0) -> Antenna:
        """Set up an antenna whose strategy is asked at every step."""
        antenna = Antenna(place, act, gain)
        self.antennas.append(antenna)
        return antenna

    def walk(self, minutes: float) -> None:
        """Let time pass: everybody changes keys with the epoch, sends, and hears."""
        end = self.clock.now() + minutes * MINUTE
        while self.clock.now() < end:
            self._change_epochs()
            for walker, own in self._on_air.items():
                self._transmit(carousel(own.block)[self._turn % 4], self._places[walker], own.block[33:34], walker)
            for antenna in self.antennas:
                antenna.act(antenna, self.clock.now())
                for frame, power in antenna.take():
                    self._deliver(frame, power, antenna.place, None)
            self._turn += 1
            self.clock.jump(STEP)

    def leave(self) -> None:
        """End everybody's day: secrets are destroyed, encounters kept, those of people to be submitted."""
        for walker in self._places:
            found = walker.proximity.finish(walker.epochs.destroy_all())
            self._keep(walker, found)
        self._on_air.clear()

    def _keep(self, walker: Walker, found: list[Encounter]) -> None:
        days = self._believed.get(walker, 0)
        if isinstance(walker, Person):
            minimum = walker.sync_.account.parameters.limits.minimum
            walker.store.keep_encounters(
                replace(one, day=one.day + days, state=State.WAITING, due=self.clock.now())
                for one in found
                if one.span >= minimum
            )
        elif isinstance(walker, Device):
            walker.encounters += found

    def _change_epochs(self) -> None:
        now = self.clock.now()
        for walker in self._places:
            self._keep(walker, walker.proximity.finish(walker.epochs.destroy(now)))
            own = self._on_air.get(walker)
            if own is None or not own.covers(now):
                self._on_air[walker] = fresh = walker.epochs.fresh(now)
                walker.epochs.switch(fresh, now)

    def _transmit(self, frame: Frame, place: Place, power: bytes, sender: Walker) -> None:
        self._deliver(frame, float(int.from_bytes(power, signed=True)), place, sender)

    def _deliver(self, frame: Frame, power: float, place: Place, sender: Walker | None) -> None:
        now = self.clock.now()
        for walker, where in self._places.items():
            rssi = power - self._propagation.loss(place, where)
            if walker is not sender and rssi >= SENSITIVITY and self._chance.random() >= self._loss:
                walker.proximity.hear(Sighting(now, frame, min(round(rssi), 20)))
        if sender is None:
            return
        for antenna in self.antennas:
            rssi = power - self._propagation.loss(place, antenna.place) + antenna.gain
            if rssi >= SENSITIVITY:
                antenna.caught.append(Caught(now, frame, rssi))


def loss_at(metres: float) -> float:
    """Path loss over this distance, dB."""
    return Propagation(fading=0.0).loss((0.0, 0.0), (metres, 0.0))


def shared(one: Device, other: Device) -> set[bytes]:
    """Every E that both hold: what the server would sign, and the authority could publish."""
    return one.secrets & other.secrets


def start_of_epoch(clock: JumpingClock, epoch: int = EPOCH) -> None:
    """Move on to the beginning of an epoch."""
    clock.jump(math.ceil(clock.now() / epoch) * epoch - clock.now())


__all__ = [
    "EPOCH",
    "FAR",
    "FAR_AWAY",
    "MINUTE",
    "NEAR",
    "NOON",
    "STEP",
    "Antenna",
    "Device",
    "Street",
    "device",
    "loss_at",
    "shared",
    "start_of_epoch",
]
