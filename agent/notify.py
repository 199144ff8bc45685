"""What a service manager is told of the running agent: `sd_notify`, a datagram with a line for each word.

READY=1 is said once the agent is on air, or paused, or has seen that the radio fails and is trying again: a Raspberry
Pi whose adapter comes late must not be killed for starting slowly. What is wrong then stands in STATUS=.
WATCHDOG=1 comes from the service's own control loop, so not from one that hangs; and it stops as well where the loop
turns but the agent has been neither on air nor able to say why for STUCK seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

# Going on air takes four calls of 5 s at most, listening 15 s; and one try more.
STUCK = 60.0


class Manager(Protocol):
    """Who is told how the agent is."""

    def tell(self, *, on_air: bool, paused: bool, problem: str) -> None:
        """Take note; called again and again, while the service's control loop turns."""

    def stopping(self) -> None:
        """Take note that the agent ends."""


class Nobody:
    """Without a service manager."""

    def tell(self, *, on_air: bool, paused: bool, problem: str) -> None:
        """Nothing to do."""

    def stopping(self) -> None:
        """Nothing to do."""


class Systemd:
    """systemd, or whoever else listens on the socket that NOTIFY_SOCKET names."""

    def __init__(self, address: str, watchdog: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """watchdog: seconds within which it wants a sign of life, 0 for none."""
        # A name that begins with @ is not in the file system.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._every = watchdog / 4
        self._clock = clock
        self._well = clock()
        self._beat = float("-inf")
        self._ready = False
        self._status = ""

    def tell(self, *, on_air: bool, paused: bool, problem: str) -> None:
        """Say what has changed, and that the agent lives."""
        words = []
        now = self._clock()
        if on_air or paused or problem:
            self._well = now
            if not self._ready:
                words.append("READY=1")
        if (status := _status(on_air=on_air, paused=paused, problem=problem)) != self._status:
            words.append(f"STATUS={status}")
        beats = bool(self._every) and now - self._well < STUCK and now - self._beat >= self._every
        if beats:
            words.append("WATCHDOG=1")
        if words and self._send(words):
            self._ready = self._ready or "READY=1" in words
            self._status = status
            self._beat = now if beats else self._beat

    def stopping(self) -> None:
        """Say that it ends, and be done."""
        self._send(["STOPPING=1"])
        self._socket.close()

    def _send(self, words: list[str]) -> bool:
        with contextlib.suppress(OSError):  # said again at the next turn
            self._socket.sendto("\n".join(words).encode(), self._address)
            return True
        return False


def _status(*, on_air: bool, paused: bool, problem: str) -> str:
    # No number of peers: any user of the machine can read this.
    if paused:
        return "paused"
    if problem:
        return f"{'on air, but' if on_air else 'not on air'}: {' '.join(problem.split())}"
    return "on air" if on_air else "starting"


def open_manager(environment: MutableMapping[str, str] = os.environ) -> Manager:
    """The service manager that started this process. What it put into the environment is not for children."""
    address = environment.pop("NOTIFY_SOCKET", "")
    period, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not address.startswith(("/", "@")):
        return Nobody()
    mine = period.isdecimal() and pid in ("", str(os.getpid()))
    return Systemd(address, int(period) / 1e6 if mine else 0.0)
