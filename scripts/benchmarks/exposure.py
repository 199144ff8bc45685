"""scripts/bench exposure: how well the agent tells who was within two metres, on recordings of real radios."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress

from agent.exposure import share_of
from agent.kept import Encounter, Exposure
from agent.samples import Sampler, decode_samples, encode_samples
from backend_stub.operations.presets import PRESETS
from protocol.errors import Misuse
from scripts.benchmarks import recordings
from scripts.benchmarks.judging import People, auc, offsets, outcome, threshold
from scripts.benchmarks.tables import notes, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocol.messages import Risk
    from scripts.benchmarks.judging import Flags, Numbers
    from scripts.benchmarks.recordings import Reading, Window

DRAWS = 500
SPLITS = 10
OWN, BEST = "spot", "max"
DEAF = 127.5  # dB, of a window of which nothing was heard
FRAME_SECONDS, LOSS = 2.0, 0.5  # a frame every two seconds at most, half of them lost: BlueZ with somebody near

# TX power (dBm) and RSSI correction (dB) of models in these recordings, from Google's list of Exposure Notifications
# calibrations (en-calibration-2020-09-30, CC BY 4.0). The others get their mean.
PUBLISHED = {"SM-A405FN": (-23, 2), "SM-G973F": (-29, 2)}
PUBLISHED_MEAN = (-26, 2)

NAIVE: dict[str, Callable[[Sequence[float]], float]] = {
    "single": lambda heard: random.Random(len(heard)).choice(heard),  # noqa: S311 (to be repeatable)
    "mean": fmean,
    "median": median,
    "max": min,  # the strongest signal is the least attenuation
}


def attenuations(window: Window, calibration: str, offset: float) -> list[float]:
    """Each reading's attenuation, as an agent so calibrated would take it."""
    if calibration != "published":
        return [one.power - one.rssi - offset for one in window.readings]
    power, _ = PUBLISHED.get(window.models[1], PUBLISHED_MEAN)
    _, correction = PUBLISHED.get(window.models[0], PUBLISHED_MEAN)
    return [float(power - one.rssi - correction) for one in window.readings]


def as_bluez(window: Window, chance: random.Random) -> list[bool]:
    """Which of the readings BlueZ would have delivered."""
    kept, free = [], 0.0
    for one in window.readings:
        kept.append(one.at >= free and chance.random() >= LOSS)
        if one.at >= free:
            free = one.at + FRAME_SECONDS
    return kept


def judged(readings: Sequence[Reading], heard: Sequence[float], risk: Risk) -> float:
    """The agent's own word: its samples, as it stores them, and what an exposure with them would count a minute."""
    if not readings:
        return 0.0
    sampler = Sampler(readings[0].at)
    for one, attenuation in zip(readings, heard, strict=True):
        sampler.add(one.at, attenuation)
    first, last = readings[0].at, readings[-1].at
    samples = decode_samples(first, encode_samples(first, sampler.samples))
    share = share_of(Exposure(Encounter(bytes(32), 0, 0, first, last, samples), 1, 0), risk)
    return 0.0 if share.short else share.nearness


class Scores:
    """Every score of every window, under one calibration and one sampling."""

    def __init__(
        self, windows: Sequence[Window], calibration: str, added: Numbers, thin: bool, presets: Sequence[str], tick: Any
    ) -> None:
        self.by_name: dict[str, Numbers] = {}
        found: dict[str, list[float]] = {name: [] for name in (*NAIVE, *presets)}
        for number, window in enumerate(windows):
            heard = attenuations(window, calibration, float(added[number]))
            kept = as_bluez(window, random.Random(number)) if thin else [True] * len(heard)  # noqa: S311
            readings = [one for one, keep in zip(window.readings, kept, strict=True) if keep]
            heard = [one for one, keep in zip(heard, kept, strict=True) if keep]
            for name, naive in NAIVE.items():
                found[name].append(-naive(heard) if heard else -DEAF)
            for name in presets:
                found[name].append(judged(readings, heard, PRESETS[name].risk))
            tick()
        self.by_name = {name: np.array(values) for name, values in found.items()}


def fitted(windows: Sequence[Window], train: Flags) -> Numbers:
    """What the transmitter's model adds to attenuation, fitted on the training windows; receivers are not fitted."""
    strongest = np.array([np.quantile([one.power - one.rssi for one in w.readings], 0.1) for w in windows])
    metres = np.array([max(median(w.distances), 0.1) for w in windows])
    return offsets(strongest, metres, [[w.models[1] for w in windows]], train)


def left_out(windows: Sequence[Window]) -> Numbers:
    """The offsets of each scenario's windows, fitted on the other scenarios."""
    scenario = np.array([w.scenario for w in windows])
    added = np.zeros(len(windows))
    for name in sorted(set(scenario)):
        if (scenario != name).any():
            added[scenario == name] = fitted(windows, scenario != name)[scenario == name]
    return added


def table_of(windows: Sequence[Window], near: Flags, scores: Scores, seed: int) -> list[dict[str, Any]]:
    """A row a score: on what was left out, a scenario at a time."""
    scenario = np.array([w.scenario for w in windows])
    people = People([w.receiver for w in windows], [w.transmitter for w in windows], DRAWS, seed)
    rows = []
    for name, score in scores.by_name.items():
        said = np.zeros(len(near), dtype=bool)
        for one in sorted(set(scenario)):
            inside = scenario == one
            rest = ~inside if (~inside).any() else inside
            said[inside] = score[inside] >= threshold(score[rest], near[rest])
        rows.append(
            {
                "score": name,
                "auc": auc(score, near),
                "interval": people.interval(near, score),
                "lead": auc(score, near) - auc(scores.by_name[BEST], near),
                "lead_interval": people.interval(near, score, scores.by_name[BEST]),
                **vars(outcome(said, near)),
                "by_scenario": {
                    str(one): {
                        "auc": auc(score[scenario == one], near[scenario == one]),
                        **vars(outcome(said[scenario == one], near[scenario == one])),
                    }
                    for one in sorted(set(scenario))
                },
            }
        )
    return rows


def disjoint(
    windows: Sequence[Window], near: Flags, scored: Callable[[Numbers, Flags], Scores], seed: int
) -> dict[str, list[float]]:
    """AUC on windows among people of whom training knew nothing, over random halves; fitted on the other half."""
    names = sorted({w.receiver for w in windows} | {w.transmitter for w in windows}, key=lambda one: (len(one), one))
    found: dict[str, list[float]] = {}
    for split in range(SPLITS):
        half = set(random.Random(f"{seed} {split}").sample(names, len(names) // 2))  # noqa: S311
        test = np.array([w.receiver in half and w.transmitter in half for w in windows])
        train = np.array([w.receiver not in half and w.transmitter not in half for w in windows])
        if not (test.any() and train.any()):
            continue
        scores = scored(fitted(windows, train), test)
        for name, score in scores.by_name.items():
            found.setdefault(name, []).append(auc(score, near[test]))
    return found


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser(
        "exposure",
        help="who was within two metres, on recordings of real radios, against naive scores and other apps' weights",
        description=__doc__,
        epilog=recordings.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder with the recordings")
    parser.add_argument("--seed", type=int, default=1, help="of thinning, splits and confidence intervals (default 1)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 2 where there is no data."""
    try:
        result = measure(options.data, options.seed)
    except Misuse as error:
        notes.print(f"error: {error.text}", soft_wrap=True, markup=False)
        return error.exit_code
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Everything there is to say about the recordings in this folder. Raises Misuse where there are none."""
    windows, unknown = recordings.phones(folder)
    still = {seconds: recordings.pairs(folder, seconds) for seconds in (60, 900)}
    if not windows and not still[60]:
        raise Misuse(f"there is no recording in {folder}; see for the form: scripts/bench exposure --help")
    result: dict[str, Any] = {"seed": seed}
    with Progress(console=notes, transient=True) as progress:
        if windows:
            result["phones"] = _measure_phones(windows, unknown, seed, progress)
        if still[60]:
            result["still"] = {str(s): _measure_still(found, seed, progress) for s, found in still.items()}
    return result


def _measure_phones(windows: list[Window], unknown: int, seed: int, progress: Progress) -> dict[str, Any]:
    near = np.array([w.near for w in windows])
    task = progress.add_task("windows", total=len(windows) * 5 + SPLITS * len(windows) // 4)

    def tick() -> None:
        progress.advance(task)

    none = np.zeros(len(windows))
    added = {"recorded": none, "published": none, "fitted": left_out(windows)}
    full = {name: Scores(windows, name, offset, False, tuple(PRESETS), tick) for name, offset in added.items()}
    thin = {name: Scores(windows, name, added[name], True, (OWN,), tick) for name in ("recorded", "fitted")}

    def scored(offset: Numbers, test: Flags) -> Scores:
        chosen = [w for w, inside in zip(windows, test, strict=True) if inside]
        return Scores(chosen, "fitted", offset[test], False, (OWN,), tick)

    labels = {
        "most of the window": near,
        "mean distance": np.array([w.near_on_average for w in windows]),
        "two minutes of it": np.array([w.near_two_minutes for w in windows]),
    }
    half = {name: scores.by_name[OWN] >= 0.5 for name, scores in full.items()}
    return {
        "windows": len(windows),
        "near": int(near.sum()),
        "unknown": unknown,
        "readings": sum(len(w.readings) for w in windows),
        "calibrations": {name: table_of(windows, near, scores, seed) for name, scores in full.items()},
        "as_bluez": {name: table_of(windows, near, scores, seed) for name, scores in thin.items()},
        "at_one_half": {name: vars(outcome(said, near)) for name, said in half.items()},
        "labels": {
            label: {
                "near": int(flags.sum()),
                **{name: {s: auc(full[name].by_name[s], flags) for s in (BEST, OWN)} for name in full},
            }
            for label, flags in labels.items()
        },
        "disjoint": {name: _spread(found) for name, found in disjoint(windows, near, scored, seed).items()},
    }


def _spread(found: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(found), "least": min(found), "most": max(found)}


def _measure_still(windows: list[Window], seed: int, progress: Progress) -> dict[str, Any]:
    task = progress.add_task("still pairs", total=len(windows))
    near = np.array([w.near for w in windows])
    scores = Scores(windows, "recorded", np.zeros(len(windows)), False, tuple(PRESETS), lambda: progress.advance(task))
    said = outcome(scores.by_name[OWN] >= 0.5, near)
    rows = table_of(windows, near, scores, seed)
    return {"windows": len(windows), "near": int(near.sum()), "rows": rows, "at_one_half": vars(said)}


# --- for people ---

CALIBRATIONS = {
    "recorded": "TX power as recorded",
    "published": "published calibration, nothing fitted",
    "fitted": "transmitters' models, fitted on the other scenarios",
}


def _print(result: dict[str, Any]) -> None:
    if phones := result.get("phones"):
        for name, rows in phones["calibrations"].items():
            _print_rows(f"Within 2 m for most of a window: {CALIBRATIONS[name]}", rows)
        for name, rows in phones["as_bluez"].items():
            _print_rows(f"The same as BlueZ would deliver it: {CALIBRATIONS[name]}", rows)
        _print_scenarios(phones)
        _print_labels(phones)
        show(
            "People of whom training knew nothing (random halves; models fitted on the other half)",
            ["score", "AUC, mean", "least", "most"],
            [
                [name, *(f"{found[key]:.3f}" for key in ("mean", "least", "most"))]
                for name, found in phones["disjoint"].items()
            ],
            f"{phones['windows']} windows of {recordings.WINDOW // 60} minutes, {phones['near']} near, "
            f"{phones['readings']} packets; {phones['unknown']} windows without a known distance are left out.",
        )
    for seconds, still in result.get("still", {}).items():
        _print_rows(
            f"Two still devices, windows of {int(seconds) // 60} min ({still['windows']})", still["rows"], False
        )
        print(_half_text("as recorded", still["at_one_half"]))


def _print_rows(title: str, rows: Sequence[dict[str, Any]], explained: bool = True) -> None:
    remark = (
        "AUC with 95 % interval, people drawn anew with all their windows. Lead: over the strongest packet (max). "
        "Threshold: chosen on the other scenarios (Youden)."
    )
    show(
        title,
        ["score", "AUC", "95 %", "lead", "95 %", "recall", "precision", "false positives"],
        [
            [
                row["score"],
                f"{row['auc']:.3f}",
                "{:.3f}–{:.3f}".format(*row["interval"]),
                f"{row['lead']:+.3f}",
                "{:+.3f}–{:+.3f}".format(*row["lead_interval"]),
                f"{row['recall']:.2f}",
                f"{row['precision']:.2f}",
                f"{row['false_positive_rate']:.2f}",
            ]
            for row in rows
        ],
        *([remark] if explained else []),
    )


def _print_scenarios(phones: dict[str, Any]) -> None:
    rows = [
        (name, row) for name, found in phones["calibrations"].items() for row in found if row["score"] in (BEST, OWN)
    ]
    scenarios = list(rows[0][1]["by_scenario"])
    show(
        "By scenario left out: AUC (recall / false positives at the threshold from the others)",
        ["score", *(name.removeprefix("scenario") for name in scenarios)],
        [
            [
                f"{row['score']}, {name}",
                *(
                    f"{one['auc']:.3f} ({one['recall']:.2f}/{one['false_positive_rate']:.2f})"
                    for one in row["by_scenario"].values()
                ),
            ]
            for name, row in rows
        ],
        *(_half_text(name, found) for name, found in phones["at_one_half"].items()),
    )


def _half_text(name: str, found: dict[str, float]) -> str:
    return (
        f"{OWN} at its own middle (0.5), {name}: recall {found['recall']:.2f}, precision {found['precision']:.2f}, "
        f"false positives {found['false_positive_rate']:.2f}."
    )


def _print_labels(phones: dict[str, Any]) -> None:
    show(
        "By what counts as near (AUC)",
        ["near for", "windows", *(f"{score}, {name}" for name in CALIBRATIONS for score in (BEST, OWN))],
        [
            [
                label,
                str(found["near"]),
                *(f"{found[name][score]:.3f}" for name in CALIBRATIONS for score in (BEST, OWN)),
            ]
            for label, found in phones["labels"].items()
        ],
    )
