"""Risk as others published it, by name: `--set risk=NAME` takes over the risk and its infectious days."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Misuse
from protocol.messages import Band, OnsetLevel, Risk


@dataclass(frozen=True, slots=True)
class Preset:
    """What one authority set. onset: the days that its levels of infectiousness stand for."""

    risk: Risk
    onset: tuple[OnsetLevel, ...]


_ONSET = (
    OnsetLevel(first=-2, last=-1, level=1),
    OnsetLevel(first=0, last=3, level=2),
    OnsetLevel(first=4, last=9, level=1),
)
# Corona-Warn-App's transmission risk levels 3 to 8 are levels 1 to 6 here, each worth 0.2 times its number there; its
# levels 1 and 2 are filtered out, so their days have none (cwa-server: trl-from-dsos, transmission-risk-value-mapping).
_CWA_WEIGHTS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
_CWA_ONSET = (
    OnsetLevel(first=-4, last=-4, level=2),
    OnsetLevel(first=-3, last=-3, level=4),
    OnsetLevel(first=-2, last=-2, level=5),
    OnsetLevel(first=-1, last=1, level=6),
    OnsetLevel(first=2, last=2, level=4),
    OnsetLevel(first=3, last=3, level=3),
    OnsetLevel(first=4, last=4, level=1),
)
_GAP = 120.0

PRESETS = {
    # The first Corona-Warn-App: less than 10 minutes, or further than 73 dB, is no exposure.
    "cwa-v1": Preset(
        Risk(
            bands=(Band(below=55.0, weight=1.0), Band(below=63.0, weight=0.5), Band(below=73.0, weight=0.0)),
            minimum=10.0,
            infectiousness=_CWA_WEIGHTS,
            warn_at=15.0,
            gap=_GAP,
        ),
        _CWA_ONSET,
    ),
    # Corona-Warn-App with exposure windows (cwa-server, main-config/v2/risk-calculation-parameters.yaml).
    "cwa-v2": Preset(
        Risk(
            bands=(Band(below=63.0, weight=0.8), Band(below=73.0, weight=1.0), Band(below=79.0, weight=0.1)),
            minimum=5.0,
            infectiousness=_CWA_WEIGHTS,
            warn_at=13.0,
            gap=_GAP,
        ),
        _CWA_ONSET,
    ),
    # SwissCovid weighs no infectiousness: keys are published from two days before onset on.
    "swisscovid": Preset(
        Risk(
            bands=(Band(below=50.0, weight=1.0), Band(below=55.0, weight=0.5)),
            within=1.5,
            infectiousness=(1.0,),
            warn_at=15.0,
            gap=_GAP,
        ),
        (OnsetLevel(first=-2, last=10, level=1),),
    ),
    # NHS COVID-19: seconds within 1 m, and seconds / d² beyond; the threshold is 100 of these seconds.
    "nhs": Preset(
        Risk(
            bands=(),
            within=1.0,
            falloff=2.0,
            infectiousness=(0.4, 1.0),
            warn_at=100 / 60,
            gap=_GAP,
        ),
        _ONSET,
    ),
    # This project's own: a quarter of an hour within two metres, weighed by infectiousness.
    "spot": Preset(
        Risk(
            bands=(),
            infectiousness=(0.4, 1.0),
            warn_at=15.0,
            gap=_GAP,
        ),
        _ONSET,
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name. Raises Misuse, naming those there are."""
    if name not in PRESETS:
        raise Misuse(f"there is no risk {name!r}; there are {', '.join(PRESETS)}, or set risk.warn_at and the like")
    return PRESETS[name]
