"""The parts' systemd units, before systemd's own tools; systemd itself is not started."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backend_stub.keyring import passphrases
from backend_stub.operations import systemd
from backend_stub.operations.systemd import Plan
from protocol.errors import Misuse

EXPOSURE = 1.5  # of 10; systemd calls up to 2 "OK"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

PLAN = Plan(
    Path("/home/alice/backend/authority"),
    "daemon",
    ("/usr/bin/env", "-m", "backend_stub", "authority", "run", "/home/alice/backend/authority"),
    (Path("/home/alice/.local"), Path("/usr")),
    sealed=True,
)
ODD = replace(PLAN, folder=Path('/srv/o d/100% $HOME "c" \\d/server'), sealed=False)


def analyze(folder: Path, plan: Plan, *words: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.fail("needs systemd-analyze: apt-get install systemd")
    path = folder / plan.name.replace("@", "@1")
    path.write_text(systemd.unit(plan))
    done = subprocess.run([program, "--no-pager", *words, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_systemd_grades_the_unit(tmp_path: Path) -> None:
    said = analyze(tmp_path, PLAN, "security", "--offline=true")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found
    assert float(found[1]) <= EXPOSURE, said


@pytest.mark.parametrize("plan", [PLAN, ODD])
def test_systemd_understands_the_unit(tmp_path: Path, plan: Plan) -> None:
    assert plan.folder.name not in analyze(tmp_path, plan, "verify")


def test_the_passphrase_comes_as_an_encrypted_credential() -> None:
    line = f"LoadCredentialEncrypted={passphrases.CREDENTIAL}:/etc/credstore.encrypted/spot-backend-authority"
    assert line in systemd.unit(PLAN).splitlines()
    assert "LoadCredential" not in systemd.unit(ODD)
    assert any("systemd-creds encrypt" in step for step in systemd.steps([PLAN, ODD]))
    assert not any("systemd-creds" in step for step in systemd.steps([ODD]))


def test_only_its_own_folder_can_be_written() -> None:
    writable = [line for line in systemd.unit(PLAN).splitlines() if line.startswith(("BindPaths", "ReadWritePaths"))]
    assert writable == ["BindPaths=/home/alice/backend/authority"]
    assert "ProtectSystem=strict" in systemd.unit(PLAN)


def test_whom_it_does_not_run_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "settings.toml").write_text("port = 1\n")
    monkeypatch.setattr(Path, "owner", lambda path: "root")
    with pytest.raises(Misuse, match="no part runs as root"):
        systemd.plans(tmp_path)
    monkeypatch.setattr(Path, "owner", lambda path: "alice")
    (plan,) = systemd.plans(tmp_path)
    assert plan.command[-3:] == ("server", "run", str(tmp_path / "server"))
    assert plan.user == "alice"
