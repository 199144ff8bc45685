"""How often a process does what costs much, or is worth guessing at (joins, declarations), and how much of it at once.

Addresses are known in memory only, and only as a keyed hash of their network that nobody can recompute later.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend_stub.network.listening import FULL_SECONDS
from protocol.errors import TooMany, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

BURST_SECONDS = 20.0  # so many seconds' worth may come at once
NETWORK_SHARE = 0.1  # of the rate, for one network
FORGET_SECONDS = 600.0  # after which networks are forgotten, and hashed by another key
MOST_NETWORKS = 10_000
_PREFIX = {4: 24, 6: 48}  # bits of an address that one customer's machines share


@dataclass(slots=True)
class Bucket:
    """Fills steadily, a token each time something may be done. rate: tokens a second."""

    rate: float
    tokens: float
    filled_at: float

    def wait(self, now: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        most = max(1.0, self.rate * BURST_SECONDS)
        self.tokens = min(most, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class Rate:
    """So many a second for all, and where `by_network` a tenth of it for one network."""

    def __init__(self, rate: float, *, by_network: bool = False) -> None:
        self._rate = rate
        self._by_network = by_network
        self._all = self._full(rate)
        self._networks: dict[bytes, Bucket] = {}
        self._key = secrets.token_bytes(32)
        self._forget_at = time.monotonic() + FORGET_SECONDS

    def _full(self, rate: float) -> Bucket:
        return Bucket(rate, rate * BURST_SECONDS, time.monotonic())

    def check(self, request: web.Request) -> None:
        """Raises TooMany where this is one too many."""
        now = time.monotonic()
        wait = self._network(request.remote or "", now) if self._by_network else 0.0
        wait = wait or self._all.wait(now)
        if wait:
            raise TooMany("too many ask for this at once; try again a little later", max(1.0, wait))

    def _network(self, address: str, now: float) -> float:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return 0.0
        if parsed.is_loopback:  # a web server in front: everybody comes from there
            return 0.0
        if now > self._forget_at or len(self._networks) >= MOST_NETWORKS:
            self._networks.clear()
            self._key = secrets.token_bytes(32)
            self._forget_at = now + FORGET_SECONDS
        network = ipaddress.ip_network((parsed, _PREFIX[parsed.version]), strict=False)
        name = hashlib.blake2b(network.network_address.packed, key=self._key, digest_size=16).digest()
        return self._networks.setdefault(name, self._full(self._rate * NETWORK_SHARE)).wait(now)


class Room:
    """How many bytes of what strangers send are held at once."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def taken(self) -> Iterator[Callable[[int], None]]:
        """A function that takes so many bytes of it, as they come. Raises Unreachable where there are no more.

        All are given back at the end.
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._free:
                raise Unreachable("there are too many at once; try again a little later", FULL_SECONDS)
            self._free -= size
            held += size

        try:
            yield take
        finally:
            self._free += held
