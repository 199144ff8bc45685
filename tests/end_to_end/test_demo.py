"""The demonstration, as a person starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(480)
def test_exactly_that_happened(keep_output: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "scripts.demonstration"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=460,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Exactly that happened" in result.stdout
    keep_output.append(result.stderr)
