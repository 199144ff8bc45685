"""Looking for one's own encounters in what the authority publishes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from protocol import encounter, publication

if TYPE_CHECKING:
    from agent.store import Store
    from protocol.messages import Publication

DAYS_APART = 1  # two devices' days of one encounter may differ by so many: it began around midnight


class Lookup:
    """The tokens that the peers of all encounters kept would declare: worked out once, for many publications."""

    def __init__(self, store: Store) -> None:
        """Whoever was diagnosed first need not be warned of those who caught it from them: what was declared is out."""
        self._encounters: dict[bytes, int] = {}
        self._by_day: dict[int, list[bytes]] = defaultdict(list)
        for one in store.undeclared():
            token = encounter.token_of(one.secret, 1 - one.role)
            self._encounters[token] = one.id
            for day in range(one.day - DAYS_APART, one.day + DAYS_APART + 1):
                self._by_day[day].append(token)
        for tokens in self._by_day.values():
            tokens.sort()

    def find(self, batch: Publication) -> list[tuple[int, int]]:
        """The (encounter id, level) of encounters whose peer declared."""
        return [(self._encounters[found.token], found.level) for found in publication.match(batch, self._by_day)]
