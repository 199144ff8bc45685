"""The bench of exposure, on recordings made up here: their form, and what is said of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scripts.benchmarks import exposure, recordings
from scripts.benchmarks.judging import People, auc, offsets, outcome, threshold

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    "db_id INTEGER PRIMARY KEY, receiver_id INT, receiver_model TEXT, transmitter_id INT, transmitter_model TEXT,"
    " timestamp REAL, rssi INT, tx_power INT, ground_truth_distance REAL"
)


def record(file: Path, seed: int, people: int = 6) -> None:
    """People of two models, the second 10 dB louder than it says; pairs 1 m or 5 m apart; two who are not measured."""
    chance = random.Random(seed)
    rows: list[tuple[Any, ...]] = []
    for receiver in range(people):
        for transmitter in range(people):
            metres: float | None = 1.0 if (receiver + transmitter) % 2 else 5.0
            loud = 10 if transmitter % 3 == 0 else 0
            signal = -20 - 48 - (0 if metres == 1.0 else 8) + loud
            if {receiver, transmitter} == {0, 1}:
                metres = -1.0 if receiver else None
            for number in range(40 if receiver != transmitter else 0):
                rssi = round(signal - chance.expovariate(1 / 6))
                models = (str(receiver), "quiet", str(transmitter), "loud" if loud else "quiet")
                rows.append((*models, 1_587_100_500_000 + number * 15_000, rssi, -20, metres))
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE results ({COLUMNS})")
        fields = "receiver_id, receiver_model, transmitter_id, transmitter_model, timestamp, rssi, tx_power"
        connection.executemany(
            f"INSERT INTO results ({fields}, ground_truth_distance) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        connection.commit()


def record_still(file: Path, loss: int) -> None:
    lines = ["Timestamp,MAC,RSSI,UUID,RPI,Version,TX_Power,Reserved"]
    lines += [f"{1_588_140_000 + 10 * number},m,{12 - loss - number % 7},fd6f,aa,40,0c,0000" for number in range(60)]
    lines += ["1588140001,m,-4294967234,fd6f,aa,40,0c,0000", "1588140002,m,-20,fd6f,bb,40,0c,0000"]
    file.write_text("\n".join(lines))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exposure, "DRAWS", 20)
    monkeypatch.setattr(exposure, "SPLITS", 2)
    (tmp_path / "people").mkdir()
    for seed in (1, 2):
        record(tmp_path / "people" / f"scenario{seed}.sqlite", seed)
    for metres, loss in ((100, 48), (400, 62)):
        record_still(tmp_path / f"pair_{metres}cm_A.csv", loss)
    return tmp_path


def test_windows_are_read(data: Path) -> None:
    windows, unknown = recordings.phones(data)
    assert unknown == 4
    assert len(windows) == 56
    assert {w.scenario for w in windows} == {"scenario1", "scenario2"}
    assert sum(w.near for w in windows) == 32
    assert all(w.near == w.near_on_average == w.near_two_minutes for w in windows)
    still = recordings.pairs(data, 900)
    assert sum(len(w.readings) for w in still) == 120
    assert {(w.readings[0].metres, w.readings[0].power) for w in still} == {(1.0, 12), (4.0, 12)}


def test_a_model_that_is_louder_than_it_says_is_seen_through(data: Path) -> None:
    found = exposure.measure(data, 1)["phones"]
    rows = {name: {row["score"]: row for row in rows} for name, rows in found["calibrations"].items()}
    assert set(rows["recorded"]) == {"single", "mean", "median", "max", "cwa-v1", "cwa-v2", "swisscovid", "nhs", "spot"}
    assert rows["fitted"]["spot"]["auc"] > rows["recorded"]["spot"]["auc"]
    assert rows["fitted"]["spot"]["auc"] > 0.98
    assert rows["fitted"]["spot"]["recall"] > 0.9
    for row in (*rows["recorded"].values(), *rows["fitted"].values()):
        low, high = row["interval"]
        assert 0 <= low <= high <= 1
    assert found["labels"]["most of the window"]["near"] == 32
    assert set(found["as_bluez"]) == {"recorded", "fitted"}


def test_the_same_comes_out_again(data: Path) -> None:
    assert json.dumps(exposure.measure(data, 3)) == json.dumps(exposure.measure(data, 3))


def test_tables_and_json_are_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exposure.run(argparse.Namespace(data=data, seed=1, json=False)) == 0
    text = capsys.readouterr().out
    for part in ("By scenario left out", "People of whom training knew nothing", "Two still devices", "cwa-v2"):
        assert part in text
    assert exposure.run(argparse.Namespace(data=data, seed=1, json=True)) == 0
    assert json.loads(capsys.readouterr().out)["still"]["900"]["windows"] >= 2


def test_no_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exposure.run(argparse.Namespace(data=tmp_path, seed=1, json=False)) == 2
    assert "there is no recording" in capsys.readouterr().err
    (tmp_path / "other.sqlite").write_bytes(b"not a database at all, by any means")
    assert exposure.run(argparse.Namespace(data=tmp_path, seed=1, json=False)) == 2
    assert "is no recording" in capsys.readouterr().err
    (tmp_path / "other.sqlite").unlink()
    (tmp_path / "other_90cm.csv").write_text("a,b\n1,2\n")
    assert exposure.run(argparse.Namespace(data=tmp_path, seed=1, json=False)) == 2
    assert "is no recording" in capsys.readouterr().err


def test_bluez_delivers_a_frame_every_four_seconds(data: Path) -> None:
    readings = tuple(recordings.Reading(number * 0.1, -60, 0, 1.0) for number in range(9000))
    window = recordings.Window("s", "a", "b", ("m", "m"), readings)
    assert sum(exposure.as_bluez(window, random.Random(1))) == pytest.approx(225, abs=40)


# --- judging ---


def test_the_area_under_the_curve_by_hand() -> None:
    score, near = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])
    assert auc(score, near) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auc(score, near, np.array([1.0, 1.0, 0.0, 1.0])) == 1.0
    assert np.isnan(auc(score, np.ones(4, dtype=bool)))


def test_a_threshold_divides_best() -> None:
    score = np.array([0.1, 0.4, 0.6, 0.9, 0.95])
    near = np.array([False, False, True, True, False])
    assert threshold(score, near) == pytest.approx(0.6)
    assert vars(outcome(score >= 0.6, near)) == pytest.approx(
        {"recall": 1.0, "precision": 2 / 3, "false_positive_rate": 1 / 3}
    )


def test_offsets_are_found_and_unknown_models_have_none() -> None:
    chance = np.random.default_rng(1)
    metres = chance.uniform(0.5, 5, 400)
    model = np.array(["a", "b"])[chance.integers(0, 2, 400)]
    strength = 48 + 20 * np.log10(metres) + np.where(model == "b", 10.0, 0.0) + chance.normal(0, 2, 400)
    model[:10] = "c"
    train = np.arange(400) >= 10
    found = offsets(strength, metres, [list(model)], train)
    assert found[model == "b"][0] - found[model == "a"][0] == pytest.approx(10, abs=1.0)
    assert found[model == "a"][0] < found[0] < found[model == "b"][0]


def test_people_come_and_go_with_all_their_windows() -> None:
    near = np.array([True, False] * 20)
    score = near + 0.0
    assert People(["a"] * 40, ["b"] * 40, 50, 1).interval(near, score) == (1.0, 1.0)
    assert People(["a"] * 40, ["b"] * 40, 50, 1).interval(near, score, score) == (0.0, 0.0)
