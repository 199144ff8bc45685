"""From sightings to encounters: which peer was heard over which of the device's own epochs, when, and how near."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.epochs import GRACE
from agent.kept import Encounter
from agent.samples import Sampler
from ble.assembly import Assembler
from ble.frame import carousel
from protocol import encounter
from protocol.errors import SpotError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.epochs import Epochs, OwnEpoch
    from ble.frame import Block
    from ble.radio import Sighting

STATIC = 3  # sightings of one slice and no other, from which on they are of no block
WAITING = 64  # sightings kept for a key id whose EBID is not complete yet
KEY_IDS = 4096  # key ids for which sightings are kept
PEERS = 4096  # peers under way; the one longest unheard makes room


@dataclass(slots=True)
class _Open:
    """An encounter under way."""

    secret: bytes
    role: int
    first: float
    last: float
    sampler: Sampler
    changed: bool = True

    def add(self, at: float, attenuation: float) -> None:
        """Take one sighting in."""
        self.sampler.add(at, attenuation)
        self.last = max(self.last, at)
        self.changed = True

    def snapshot(self) -> Encounter:
        """The encounter as it is kept."""
        return Encounter(
            self.secret,
            self.role,
            encounter.day_of(self.first),
            self.first,
            self.last,
            tuple(self.sampler.samples),
        )


class Proximity:
    """Turns what the radio hears into encounters. Everything a stranger can fill is bounded."""

    def __init__(self, epochs: Epochs, correction: float = 0.0) -> None:
        """correction: dB added to every attenuation, for a radio that hears better or worse than usual."""
        self._epochs = epochs
        self._correction = correction
        # People who pass each other now and then need all of an epoch for a block, where reception is bad.
        self._assembler = Assembler(lifetime=epochs.length)
        self._early: OrderedDict[int, deque[tuple[Sighting, OwnEpoch]]] = OrderedDict()
        # By the whole block: one made anew around somebody's EBID, with another power, is another peer.
        self._open: OrderedDict[tuple[OwnEpoch, Block], _Open] = OrderedDict()
        self._evicted: list[tuple[OwnEpoch, Encounter]] = []
        self._given_up: list[Encounter] = []
        self.heard = 0

    def __len__(self) -> int:
        """How many encounters are under way."""
        return len(self._open)

    def hear(self, sighting: Sighting) -> None:
        """Take one sighting in. Sightings from before an EBID was complete count as well, once it is."""
        own = self._epochs.on_air(sighting.at)
        if own is None:
            return
        block = self._assembler.add(sighting.frame, sighting.at)
        early = self._early_of(sighting.frame.key_id)
        early.append((sighting, own))
        if block is None:
            return
        if not self._epochs.is_own(block.ebid):
            frames = carousel(block.encode()) if len(early) > 1 else (sighting.frame,)
            for one, epoch in early:
                if one.frame in frames:  # anybody can send slices under its key id
                    self._meet(epoch, block, one.at, one.rssi)
            self.heard += 1
        early.clear()

    def peers(self, since: float) -> int:
        """How many peers were heard since this time."""
        return sum(one.last >= since for one in self._open.values())

    def is_completing(self, since: float) -> bool:
        """Whether somebody was heard since this time (Unix seconds) whose block is not complete yet."""
        for early in reversed(self._early.values()):  # the key ids heard last
            if early and early[-1][0].at < since:
                break
            if early and (len(early) < STATIC or _varies(early)):
                return True
        return False

    def unread(self, since: float, span: float) -> int:
        """How many were heard since this time (Unix seconds), for `span` seconds or longer, without a complete block.

        Reception is that poor, or somebody jams or forges frames: if they are near, their encounters are missed.
        """
        found = 0
        for early in reversed(self._early.values()):  # the key ids heard last
            if early and early[-1][0].at < since:
                break
            found += bool(early) and early[-1][0].at - early[0][0].at >= span and _varies(early)
        return found

    def changed(self) -> list[Encounter]:
        """The encounters that got sightings since this was called last, as they are now."""
        changed = [one for one in self._open.values() if one.changed]
        for one in changed:
            one.changed = False
        return [one.snapshot() for one in changed]

    def finish(self, over: Iterable[OwnEpoch]) -> list[Encounter]:
        """The encounters of epochs whose secrets were destroyed; they get no more sightings.

        Those without samples had to make room for others, and are to be forgotten.
        """
        gone = set(over)
        evicted = [one for own, one in self._evicted if own in gone]
        self._evicted = [(own, one) for own, one in self._evicted if own not in gone]
        given_up, self._given_up = self._given_up, []
        keys = [key for key in self._open if key[0] in gone]
        return given_up + evicted + [self._open.pop(key).snapshot() for key in keys]

    def expire(self, now: float) -> None:
        """Forget key ids that were not heard for long, or are of an epoch that is over: all devices change at once."""
        self._assembler.expire(now)
        begins = now // self._epochs.length * self._epochs.length
        if now >= begins + GRACE:
            self._assembler.forget(begins)

    def _early_of(self, key_id: int) -> deque[tuple[Sighting, OwnEpoch]]:
        early = self._early.setdefault(key_id, deque(maxlen=WAITING))
        self._early.move_to_end(key_id)
        if len(self._early) > KEY_IDS:
            self._early.popitem(last=False)
        return early

    def _meet(self, own: OwnEpoch, block: Block, at: float, rssi: int) -> None:
        key = (own, block)
        meeting = self._open.get(key)
        if meeting is None:
            data = block.encode()
            try:
                secret = own.key.meet(own.block, data)
            except SpotError:
                return  # a hostile EBID, or one completed after the grace time
            meeting = self._open[key] = _Open(secret, encounter.role_of(own.block, data), at, at, Sampler(at))
            if len(self._open) > PEERS:
                self._evict()
        self._open.move_to_end(key)
        meeting.add(at, block.tx_power - rssi + self._correction)

    def _evict(self) -> None:
        """Make room. Somebody who is really there is heard again long before thousands of new peers are made up."""
        (own, _), meeting = self._open.popitem(last=False)
        self._evicted.append((own, meeting.snapshot()))
        if len(self._evicted) > 2 * PEERS:
            self._evicted.sort(key=lambda one: len(one[1].samples), reverse=True)
            self._given_up += [replace(one, samples=()) for _, one in self._evicted[PEERS:]]
            del self._evicted[PEERS:]


def _varies(early: Iterable[tuple[Sighting, OwnEpoch]]) -> bool:
    """Whether more than one slice was heard: a gadget's UUID of 128 bits looks like one, but stays the same."""
    return len({sighting.frame.index for sighting, _ in early}) > 1
