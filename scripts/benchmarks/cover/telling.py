"""Whether a classifier that has a watcher's features of a device's day can tell what happened on it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from scripts.benchmarks.cover.capture import Connection

DECLARATION = 8192  # bytes that no other message to the backend has
SUBMISSION = 900  # bytes to the backend: no request without a body has so many
FOLDS = 5
DRAWS = 1000
PART = 3  # hours of a day's parts

Key = tuple[int, int]
"""A device and a day."""


def kind_of(one: Connection) -> str:
    """What a watcher takes it for by its size."""
    if one.up > DECLARATION:
        return "declaration"
    return "submission" if one.up > SUBMISSION else "look"


def by_day(connections: Sequence[Connection], day_at: Callable[[float], int]) -> dict[Key, list[Connection]]:
    """The connections of each device and day."""
    found: dict[Key, list[Connection]] = defaultdict(list)
    for one in connections:
        found[one.device, day_at(one.at)].append(one)
    return found


def features(
    days: Mapping[Key, list[Connection]], keys: Sequence[Key], seconds_of: Callable[[float], float]
) -> np.ndarray[Any, Any]:
    """A row from sizes and times for each device and day. seconds_of: into the day, of a time of the machine."""
    return np.array([_row(days.get(key, []), seconds_of) for key in keys], dtype=float)


def _row(found: Sequence[Connection], seconds_of: Callable[[float], float]) -> list[float]:
    row: list[float] = [len(found), sum(one.up for one in found), sum(one.down for one in found), _at_once(found)]
    for kind in ("look", "submission", "declaration"):
        some = [one for one in found if kind_of(one) == kind]
        at = [seconds_of(one.at) for one in some]
        row.append(len(some))
        row += _spread([one.up for one in some]) + _spread([one.down for one in some])
        row += _spread([one.waited for one in some]) + _spread([one.ended - one.at for one in some])
        row += _spread(np.diff(at).tolist())
        row += [sum(PART * part <= one / 3600 < PART * (part + 1) for one in at) for part in range(24 // PART)]
        row += [min(at, default=-1.0), max(at, default=-1.0)]
    return row


def _spread(numbers: Sequence[float]) -> list[float]:
    if not numbers:
        return [-1.0] * 4
    return [min(numbers), max(numbers), fmean(numbers), float(np.std(numbers))]


def _at_once(found: Sequence[Connection]) -> int:
    events = sorted([(one.at, 1) for one in found] + [(one.ended, -1) for one in found])
    most = now = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


@dataclass(frozen=True, slots=True)
class Told:
    """How well it could be told: the area under the curve, and where it lies in 95 of 100 draws of the devices."""

    auc: float
    low: float
    high: float
    yes: int
    no: int


def tell(
    rows: np.ndarray[Any, Any], keys: Sequence[Key], among: Collection[Key], yes: Collection[Key]
) -> dict[str, Told]:
    """By each classifier, trained on other devices than it is asked about. Empty where a class has too few days.

    rows: of these keys. among: which of them are asked about; yes: what is to be told.
    """
    asked = [index for index, key in enumerate(keys) if key in among]
    rows, keys = rows[asked], [keys[index] for index in asked]
    labels = np.array([key in yes for key in keys], dtype=bool)
    devices = np.array([device for device, _ in keys])
    if min(labels.sum(), (~labels).sum()) < FOLDS or len(set(devices)) < FOLDS:
        return {}
    models = {  # small ones: there are few days, and a busy machine
        "gradient boosting": HistGradientBoostingClassifier(max_depth=4, learning_rate=0.05, random_state=1),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)),
    }
    return {name: _told(model, rows, labels, devices) for name, model in models.items()}


def _told(model: Any, rows: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], devices: np.ndarray[Any, Any]) -> Told:
    scores = np.zeros(len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for train, test in GroupKFold(FOLDS).split(rows, labels, devices):
            model.fit(rows[train], labels[train])
            scores[test] = model.predict_proba(rows[test])[:, 1]
    low, high = _interval(scores, labels, devices)
    yes = int(labels.sum())
    return Told(float(roc_auc_score(labels, scores)), low, high, yes, len(labels) - yes)


def _interval(
    scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], devices: np.ndarray[Any, Any]
) -> tuple[float, float]:
    random = np.random.default_rng(1)
    places = {device: np.flatnonzero(devices == device) for device in sorted(set(devices.tolist()))}
    found = []
    for _ in range(DRAWS):
        drawn = np.concatenate([places[one] for one in random.choice(list(places), len(places))])
        if 0 < labels[drawn].sum() < len(drawn):
            found.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def apart(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """How far two sets of waits are apart: AUC of the wait itself, either way, and the Kolmogorov-Smirnov test's p.

    Empty where there is too little to compare.
    """
    if min(len(one), len(other)) < FOLDS:
        return {}
    auc = roc_auc_score([0] * len(one) + [1] * len(other), [*one, *other])
    return {"auc": float(max(auc, 1 - auc)), "p": float(ks_2samp(one, other).pvalue)}
