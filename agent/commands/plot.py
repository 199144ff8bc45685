"""A picture of warned days: attenuation and nearness over time, and the risk growing towards the threshold.

Needs matplotlib, which comes with the extra `plot`.
"""

from __future__ import annotations

import datetime
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from agent.clock import day_text
from agent.commands.explaining import explained
from agent.exposure import weight_of
from agent.nearness import moments
from protocol.errors import Misuse, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.exposure import DayRisk, Share
    from protocol.messages import Risk

FORMATS = (".png", ".svg", ".pdf")


def draw(path: Path, risks: Sequence[DayRisk], risk: Risk) -> None:
    """Write the picture, for its owner to read; the file's ending says its format. Raises Misuse or StorageError."""
    if path.suffix.lower() not in FORMATS:
        raise Misuse(f"a plot is a file that ends in {', '.join(FORMATS)}, not {path.name!r}")
    if not risks:
        raise Misuse("there is no exposure to draw")
    days = explained(risks)
    figure = _figure(len(days))
    axes = figure.subplots(2 * len(days), 1)
    for day, above, below in zip(days, axes[::2], axes[1::2], strict=True):
        _draw_day(above, below, day, risk)
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)  # also of one that was there: it shows what is sealed otherwise
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); choose another file") from None


def _figure(days: int) -> Any:
    try:
        figures: Any = import_module("matplotlib.figure")
    except ImportError:
        raise Misuse("drawing needs matplotlib: pip install 'spot-agent[plot]'") from None
    return figures.Figure(figsize=(10, 5.5 * days), layout="constrained")


def _draw_day(above: Any, below: Any, day: DayRisk, risk: Risk) -> None:
    verdict = "warning" if day.warning else "no warning"
    above.set_title(f"{day_text(day.day)}: risk {day.score:.1f} of {day.warn_at:.3g}, {verdict}", loc="left")
    near = above.twinx()
    reached = 0.0
    for share in sorted(day.shares, key=lambda one: one.exposure.encounter.first):
        reached = _draw_share(above, near, below, share, risk, reached)
    above.set_ylabel("attenuation, dB (dots)")
    above.invert_yaxis()
    near.set_ylabel("nearness (line)", color="tab:red")
    near.set_ylim(0, max(1.05, *(band.weight for band in risk.bands), 0))
    below.axhline(day.warn_at, color="black", linestyle="--", linewidth=1)
    below.annotate("warning", (0.01, day.warn_at), xycoords=("axes fraction", "data"), va="bottom")
    below.set_ylabel("risk of the day")
    below.set_ylim(0, max(day.warn_at, day.score) * 1.15)
    below.set_xlabel("UTC")
    below.sharex(above)
    _clock_axis(below)


def _draw_share(above: Any, near: Any, below: Any, share: Share, risk: Risk, reached: float) -> float:
    samples = share.exposure.encounter.samples
    found = moments(samples, risk.gap)
    times = [datetime.datetime.fromtimestamp(moment.at, datetime.UTC) for moment in found]
    weights = [weight_of(moment, risk) for moment in found]
    factor = 0.0 if share.short else share.infectiousness / 60
    risks = [moment.seconds * weight * factor for moment, weight in zip(found, weights, strict=True)]
    sums = [reached + grown for grown in accumulate(risks)]
    above.plot(times, [sample.attenuation for sample in samples], ".", color="tab:gray", markersize=3, alpha=0.6)
    near.plot(times, weights, color="tab:red")
    below.fill_between(times, sums, alpha=0.4)
    return sums[-1] if sums else reached


def _clock_axis(axis: Any) -> None:
    dates: Any = import_module("matplotlib.dates")
    axis.xaxis.set_major_locator(dates.AutoDateLocator(tz=datetime.UTC))
    axis.xaxis.set_major_formatter(dates.DateFormatter("%H:%M", tz=datetime.UTC))
