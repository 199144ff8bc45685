"""Random bytes that are not: from a seed, and from scalars chosen ahead."""

from __future__ import annotations

import hashlib


class Stream:
    """SHA-256(seed ‖ counter), counter = 0, 1, 2... in 8 big-endian bytes, one after the other, cut as asked for."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._counter = 0
        self._rest = b""

    def __call__(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += hashlib.sha256(self._seed + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class Chosen:
    """Gives the 48 bytes that become each of these scalars, in their order."""

    def __init__(self, *scalars: int) -> None:
        self._scalars = list(scalars)

    def __call__(self, size: int) -> bytes:
        # A scalar is the number modulo r - 1, plus one.
        return (self._scalars.pop(0) - 1).to_bytes(size, "big")
