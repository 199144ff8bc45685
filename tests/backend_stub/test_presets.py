"""Presets, against what their authorities published."""

from __future__ import annotations

import pytest

from backend_stub.operations.policy import Policy, changed
from backend_stub.operations.presets import PRESETS, preset
from protocol.errors import Misuse


def bands(name: str) -> list[tuple[float, float]]:
    return [(band.below, band.weight) for band in preset(name).risk.bands]


def weights(name: str, days: range) -> list[float]:
    """The weight of each day since onset."""
    chosen = preset(name)
    levels = [next((span.level for span in chosen.onset if span.first <= day <= span.last), 0) for day in days]
    return [chosen.risk.infectiousness[level - 1] if level else 0.0 for level in levels]


@pytest.mark.parametrize(
    ("name", "published", "minimum", "warn_at"),
    [
        ("cwa-v1", [(55, 1.0), (63, 0.5), (73, 0.0)], 10, 15),
        ("cwa-v2", [(63, 0.8), (73, 1.0), (79, 0.1)], 5, 13),
        ("swisscovid", [(50, 1.0), (55, 0.5)], 0, 15),
    ],
)
def test_attenuation_as_published(
    name: str, published: list[tuple[float, float]], minimum: float, warn_at: float
) -> None:
    risk = preset(name).risk
    assert bands(name) == published
    assert (risk.minimum, risk.warn_at) == (minimum, warn_at)


def test_nhs_counts_seconds_over_distance_squared() -> None:
    risk = preset("nhs").risk
    assert (risk.bands, risk.within, risk.falloff) == ((), 1.0, 2.0)
    assert risk.warn_at * 60 == pytest.approx(100)
    assert risk.infectiousness == (0.4, 1.0)


def test_corona_warn_app_weighs_days_by_its_transmission_risk_levels() -> None:
    # Levels by day since onset, -5 to 6: 2 4 6 7 8 8 8 6 5 3 2 2; each worth 0.2 times itself, 1 and 2 dropped.
    published = [0, 0.8, 1.2, 1.4, 1.6, 1.6, 1.6, 1.2, 1.0, 0.6, 0, 0]
    for name in ("cwa-v1", "cwa-v2"):
        assert weights(name, range(-5, 7)) == pytest.approx(published)


def test_swisscovid_weighs_no_day() -> None:
    assert weights("swisscovid", range(-3, 12)) == [0, *[1.0] * 13, 0]


@pytest.mark.parametrize("name", PRESETS)
def test_each_makes_sense_as_a_policy(name: str) -> None:
    policy = changed(Policy(), {"risk": name})
    assert (policy.risk, policy.onset) == (preset(name).risk, preset(name).onset)
    edges = [band.below for band in policy.risk.bands]
    assert edges == sorted(set(edges))
    assert max(span.level for span in policy.onset) == len(policy.risk.infectiousness)


def test_a_preset_can_be_refined() -> None:
    policy = changed(Policy(), {"risk.warn_at": 1.5, "risk": "cwa-v2"})
    assert policy.risk.warn_at == 1.5
    assert policy.risk.bands == preset("cwa-v2").risk.bands


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(Misuse, match=r"no risk 'cwa'; there are cwa-v1, cwa-v2, swisscovid, nhs, spot"):
        changed(Policy(), {"risk": "cwa"})


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(Misuse, match="would make no sense"):
        changed(Policy(), {"onset": "\udce5"})
