"""How many connections each door of this process may have: every one is an open file, and files are shared by all."""

from __future__ import annotations

import sys
from contextlib import suppress

SPARE = 400  # files of a part beside its connections: calls to other parts, databases, certificates


def shares(limit: float, wants: list[int]) -> list[int]:
    """How many connections each of the doors that want so many may have, where so many files may be open.

    All they want where there is room; else half of what there is, in proportion: the other half is spare.
    """
    if not wants:
        return []
    spare = min(SPARE * len(wants), limit / 2)
    scale = min(1.0, (limit - spare) / sum(wants))
    return [max(1, int(want * scale)) for want in wants]


class Account:
    """What the doors of one process want, and get."""

    def __init__(self) -> None:
        self._wants: dict[object, int] = {}
        self._gets: dict[object, int] = {}

    def enter(self, door: object, connections: int) -> None:
        """From now on there is this door, which wants so many connections."""
        self._wants[door] = connections
        self._share_out()

    def leave(self, door: object) -> None:
        """There is no such door any more."""
        self._wants.pop(door, None)
        self._share_out()

    def most(self, door: object) -> int:
        """How many connections a door that was entered may have now."""
        return self._gets.get(door, 0)

    def _share_out(self) -> None:
        limit = _limit(sum(self._wants.values()) + SPARE * len(self._wants))
        self._gets = dict(zip(self._wants, shares(limit, list(self._wants.values())), strict=True))


def _limit(wanted: int) -> float:
    """How many files this process may open, after asking for so many."""
    if sys.platform == "win32":
        return float("inf")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
            )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


PROCESS = Account()
"""That of this process."""
