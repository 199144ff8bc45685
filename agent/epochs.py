"""The device's own EBIDs: a fresh key each epoch, its secret destroyed soon after."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ble.frame import Block
from protocol import encounter

if TYPE_CHECKING:
    from protocol.encounter import EpochKey
    from protocol.randomness import Random

GRACE = 30.0
"""Seconds that a key outlives its epoch, only to finish what was being received."""

HISTORY = 16  # switches remembered; a sighting is taken in at most seconds after it was heard


@dataclass(frozen=True, slots=True, eq=False)
class OwnEpoch:
    """One stretch of being on air: number of the epoch, its key, the 36-byte block that is broadcast.

    begins, ends: of the epoch, seconds since 1970.
    """

    number: int
    key: EpochKey = field(repr=False)
    block: bytes = field(repr=False)
    begins: float
    ends: float

    def covers(self, now: float) -> bool:
        """Whether it is still the epoch of this key."""
        return self.begins <= now < self.ends


class Epochs:
    """Which own key is on air, and which recent ones can still be used. A restart or a pause gets a fresh key."""

    def __init__(self, length: int, tx_power: int, random: Random | None = None) -> None:
        """length: seconds of an epoch, aligned to the clock so that all devices change at once; tx_power: dBm.

        random: for keys that have to come out the same again; without it OpenSSL draws them, so that no copy of a
        secret is Python's, which wipes nothing. The length may be changed at any time; it holds from the next key on.
        """
        self.length = length
        self._tx_power = tx_power
        self._random = random
        self._alive: list[OwnEpoch] = []
        self._history: deque[tuple[float, OwnEpoch | None]] = deque(maxlen=HISTORY)

    def fresh(self, now: float) -> OwnEpoch:
        """A fresh key for the rest of this epoch, not on air yet."""
        number = encounter.epoch_of(now, self.length)
        key = encounter.EpochKey(self._random(32) if self._random else X25519PrivateKey.generate())
        block = Block(key.ebid, self._tx_power).encode()
        own = OwnEpoch(number, key, block, float(number * self.length), float((number + 1) * self.length))
        self._alive.append(own)
        return own

    def switch(self, own: OwnEpoch | None, now: float) -> None:
        """Note that this one is on air from now on; None: nothing of ours is."""
        self._history.append((now, own))

    def on_air(self, at: float) -> OwnEpoch | None:
        """What was on air at this time; None where nothing was, or it is too long ago."""
        return next((own for since, own in reversed(self._history) if since <= at), None)

    def is_own(self, ebid: bytes) -> bool:
        """Whether this EBID is one of the device's own, coming back."""
        return any(own.key.ebid == ebid for own in self._alive)

    def destroy(self, now: float) -> list[OwnEpoch]:
        """Destroy the secrets whose grace time is over, and return them: their encounters are finished.

        A clock that was set back by more than an epoch keeps no secret alive.
        """
        return self._destroy([own for own in self._alive if not 2 * own.begins - own.ends <= now < own.ends + GRACE])

    def destroy_all(self) -> list[OwnEpoch]:
        """Destroy every secret, as before a pause or the end."""
        return self._destroy(list(self._alive))

    def _destroy(self, over: list[OwnEpoch]) -> list[OwnEpoch]:
        for own in over:
            own.key.destroy()
            self._alive.remove(own)
        return over
