"""Why a day is a warning, or none: each exposure's minutes, nearness and infectiousness, and what they came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from agent.clock import day_text, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.exposure import DayRisk, Share
    from protocol.messages import Risk


def explained(risks: Sequence[DayRisk]) -> list[DayRisk]:
    """The days to explain: those with a warning, or all where there is none."""
    return [day for day in risks if day.warning] or list(risks)


def explanation_facts(risks: Sequence[DayRisk], risk: Risk) -> list[dict[str, Any]]:
    """A day each, with an entry an exposure; unrounded, so that they multiply out and add up."""
    return [
        {
            "day": day_text(day.day),
            "score": day.score,
            "warn_at": day.warn_at,
            "warning": day.warning,
            "exposures": [_share_facts(share, risk) for share in day.shares],
        }
        for day in explained(risks)
    ]


def _share_facts(share: Share, risk: Risk) -> dict[str, Any]:
    return {
        "encounter": share.exposure.encounter.id,
        "first": round(share.exposure.encounter.first),
        "last": round(share.exposure.encounter.last),
        "minutes": share.minutes,
        "nearness": share.nearness,
        "within_2m": share.within,
        "bands": [
            {"below": band.below, "weight": band.weight, "minutes": minutes}
            for band, minutes in zip(risk.bands, share.bands, strict=True)
        ],
        "level": share.exposure.level,
        "infectiousness": share.infectiousness,
        "short": share.short,
        "score": share.score,
    }


def explanation_table(day: DayRisk) -> Table:
    """One day: an exposure a line, multiplied out, and their sum."""
    verdict = "[bold red]warning[/]" if day.warning else "no warning"
    table = Table(
        title=f"{day_text(day.day)}: {day.score:.1f} of the {day.warn_at:.3g} that warn, {verdict}",
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="dim",
        padding=(0, 2, 0, 0),
    )
    for column in ("#", "From", "To", "Within 2 m", "Minutes", "× nearness", "× infectiousness", "= risk", "Share"):
        table.add_column(column, justify="left" if column in ("From", "To") else "right", no_wrap=True)
    for share in day.shares:
        met = share.exposure.encounter
        table.add_row(
            str(met.id),
            time_text(met.first)[-5:],
            time_text(met.last)[-5:],
            f"{share.within:.0%}",
            f"{share.minutes:.1f}",
            f"{share.nearness:.2f}",
            f"{share.infectiousness:.2f}",
            "too short" if share.short else f"{share.score:.1f}",
            f"{share.score / day.score:.0%}" if day.score else "",
        )
    return table


def explanation_text(risk: Risk) -> str:
    """What nearness means under this risk, in a sentence or two."""
    if risk.bands:
        bands = ", ".join(f"below {band.below:g} dB {band.weight:g}" for band in risk.bands)
        text = f"Nearness: a minute counts by its attenuation: {bands}; else nothing."
    elif risk.falloff:
        text = (
            f"Nearness: a minute counts whole within {risk.within:g} m and ({risk.within:g} m / distance)^"
            f"{risk.falloff:g} beyond, over all distances that the signal allows."
        )
    else:
        text = f"Nearness: the probability of having been within {risk.within:g} m, from the signal."
    return text + (f" Encounters under {risk.minimum:g} minutes count nothing." if risk.minimum else "")
