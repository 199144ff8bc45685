"""How well a score tells near from far: area under the curve, its confidence, and a threshold set on other data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


def auc(score: Numbers, near: Flags, weight: Numbers | None = None) -> float:
    """The probability that a near window has the higher score; ties count half. nan where one kind is missing."""
    weight = np.ones(len(score)) if weight is None else weight
    _, place = np.unique(score, return_inverse=True)
    positive = np.bincount(place, weight * near)
    negative = np.bincount(place, weight * ~near)
    below = np.cumsum(negative) - negative
    total = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / total) if total else float("nan")


class People:
    """Draws people anew, so that the windows of one pair, or one person, come and go together (cluster bootstrap)."""

    def __init__(self, receivers: Sequence[str], transmitters: Sequence[str], draws: int, seed: int) -> None:
        names, places = np.unique([*receivers, *transmitters], return_inverse=True)
        heard, sent = places[: len(receivers)], places[len(receivers) :]
        chance = np.random.default_rng(seed)
        counts = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(float)
        # Where both are one name, it is one still pair, which is drawn once.
        self._weights = [count[heard] * np.where(heard == sent, 1.0, count[sent]) for count in counts]

    def interval(self, near: Flags, score: Numbers, other: Numbers | None = None) -> tuple[float, float]:
        """95 % of the area under the curve, or of its lead over another score's on the same windows."""
        found = [
            auc(score, near, weight) - (auc(other, near, weight) if other is not None else 0.0)
            for weight in self._weights
        ]
        low, high = np.nanquantile(found, (0.025, 0.975))
        return float(low), float(high)


def threshold(score: Numbers, near: Flags) -> float:
    """Where recall minus false-positive rate is highest (Youden)."""
    values = np.unique(score)
    place = np.searchsorted(values, score)
    lost = np.cumsum(np.bincount(place, near)) - np.bincount(place, near)
    kept = np.cumsum(np.bincount(place, ~near)) - np.bincount(place, ~near)
    gain = kept / max((~near).sum(), 1) - lost / max(near.sum(), 1)
    return float(values[int(np.argmax(gain))])


@dataclass(frozen=True)
class Outcome:
    """What comes of a threshold."""

    recall: float
    precision: float
    false_positive_rate: float


def outcome(said: Flags, near: Flags) -> Outcome:
    """Of what was said to be near, and what was."""
    hits, alarms = float((said & near).sum()), float((said & ~near).sum())
    return Outcome(
        hits / max(near.sum(), 1),
        hits / (hits + alarms) if hits + alarms else float("nan"),
        alarms / max((~near).sum(), 1),
    )


def offsets(strength: Numbers, metres: Numbers, groups: Sequence[Sequence[str]], train: Flags) -> Numbers:
    """What each window's device models add to its attenuation, dB, fitted on the training windows (ridge regression).

    strength: an attenuation a window; groups: the names that may have an offset, such as the transmitters' models.
    One that training never saw has none.
    """
    columns: list[Any] = [np.ones(len(metres)), 5 * np.log10(metres)]
    for names in groups:
        columns += [np.asarray(names) == name for name in sorted(set(np.asarray(names)[train]))]
    table = np.column_stack(columns).astype(float)
    penalty = 5.0 * np.eye(table.shape[1])
    penalty[0, 0] = 0.0
    fitted = table[train]
    found = np.linalg.solve(fitted.T @ fitted + penalty, fitted.T @ strength[train])
    added: Numbers = table[:, 2:] @ found[2:]
    return added - float(added[train].mean())
