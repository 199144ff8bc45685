"""Which day has surely come: what is forgotten is gone, so a clock that is ahead for a moment is not believed.

A day has come once the clock has named it, or later ones, for an hour in all, as a counter goes on that nobody sets: in
one run of the agent or in many short ones. Who runs a quarter of an hour a day thus forgets some days later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from agent.store import Store

HOUR = 3600.0  # seconds that the clock must name a day
NOTED = 60.0  # seconds of them that are lost if the agent ends now; a memory card wears out
MOST = 60.0  # seconds that count between two looks: no clock was seen during a longer sleep
DAYS = "days"

_Named: TypeAlias = dict[int, float]
"""For how many seconds the clock named each day; none before the one that has come, and none after today."""


class Days:
    """Watches what day the clock names."""

    def __init__(self, store: Store) -> None:
        """Go on with what an earlier run saw."""
        self._store = store
        self._named: _Named = store.get(DAYS, _Named) or {}
        self._noted = dict(self._named)
        self._looked: float | None = None

    def come(self, today: int, steady: float) -> int:
        """The last day that has surely come, 0 while none has. today: as the clock says; steady: counts seconds.

        Raises StorageError.
        """
        passed = 0.0 if self._looked is None else min(steady - self._looked, MOST)
        self._looked = steady
        # Days after today were named by a clock that was ahead, or this one is behind: the hour begins anew.
        self._named = {day: seconds for day, seconds in self._named.items() if day <= today}
        self._named[today] = min(self._named.get(today, 0.0) + passed, HOUR)
        come = _last(self._named)
        self._named = {day: seconds for day, seconds in self._named.items() if day >= come}
        self._note(today)
        return come

    def _note(self, today: int) -> None:
        noted = self._noted
        if noted.keys() != self._named.keys() or self._named[today] >= min(noted[today] + NOTED, HOUR) > noted[today]:
            self._store.put(DAYS, self._named)
            self._noted = dict(self._named)


def _last(named: _Named) -> int:
    """The last day that was named, or followed, for an hour."""
    seconds = 0.0
    for day in sorted(named, reverse=True):
        seconds += named[day]
        if seconds >= HOUR:
            return day
    return 0
