"""Without arkworks everything works, slowly: one full path in a clean environment that never had it."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = """
import asyncio, importlib.util, pathlib, sys, tempfile

from protocol.curve import open_curve
from tests.end_to_end.people import world

assert importlib.util.find_spec("py_arkworks_bls12381") is None
assert open_curve().name == "py_ecc"

async def path(folder):
    async with world(folder, "ab", settings={"risk.warn_at": 5}) as made:
        a, b = made.people.values()
        made.meet(a, b, minutes=16)
        for person in (a, b, a):
            await person.sync()
            made.clock.jump(3700)
        receipt = await a.declare(await made.code())
        await made.publish()
        await b.sync()
        assert receipt.accepted and b.warned and not a.warned

with tempfile.TemporaryDirectory() as folder:
    asyncio.run(path(pathlib.Path(folder)))
print("warned")
"""


@pytest.mark.timeout(900)
def test_one_full_path_in_a_clean_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", f"{ROOT}[backend]"]
    subprocess.run(pip, check=True, timeout=600)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "SPOT_"))
    }
    result = subprocess.run(
        [python, "-W", "error", "-c", PATH],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean,
        timeout=600,
        check=False,
    )
    assert result.stdout == "warned\n", result.stderr
    spot = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "spot"), "--data-dir", str(tmp_path / "agent"), "join", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        env=clean,
        timeout=60,
        check=False,
    )
    assert "py_ecc" in spot.stderr, "the user is told that this is slow"
    assert "spot-agent[fast]" in spot.stderr
