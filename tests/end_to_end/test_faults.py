"""A short part of scripts/bench faults: real processes, killed, cut off, filled up and misdated under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scripts.benchmarks.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_nothing_accepted_is_lost(tmp_path: Path, keep_output: list[str], database: str) -> None:
    trial = Trial(tmp_path, database, 300, kills=6, agents=4, seed="test", told=lambda *_: None, speed=240)
    result = await trial.run()
    assert result.findings.kept, result.as_json()
    assert result.counted["answered"] >= 300
    assert result.faults["kill -9 of a part or a worker"] == 6
    assert result.counted["records verified"] > 100
    keep_output += [log.read_text() for log in tmp_path.glob("*.log")]  # noqa: ASYNC240
