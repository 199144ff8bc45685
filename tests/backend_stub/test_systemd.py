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


def test_keys_get_into_no_dump_and_no_swap() -> None:
    assert {"LimitCORE=0", "MemorySwapMax=0"} <= set(systemd.unit(PLAN).splitlines())


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


@pytest.mark.parametrize("backend", ["/home/alice/backend", "/srv/backend", "/opt/spot"])
def test_other_parts_cannot_be_read_wherever_the_backend_is(tmp_path: Path, backend: str) -> None:
    """What hides the backend's folder lets in the part's own, and the program where that is in there, too."""
    program = Path(backend) / "venv"
    plan = replace(PLAN, folder=Path(backend) / "server", program=(program, Path("/usr")))
    lines = systemd.unit(plan).splitlines()
    assert "ProtectHome=tmpfs" in lines
    assert backend.startswith("/home/") or f"TemporaryFileSystem={backend}:ro" in lines
    bound = [line for line in lines if line.startswith("Bind")]
    assert bound == [f"BindReadOnlyPaths={program}", f"BindPaths={backend}/server"]
    analyze(tmp_path, plan, "verify")


def test_what_its_settings_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for the chains as files, a database's socket, a certificate of one's own."""
    monkeypatch.setattr(Path, "owner", lambda path: "alice")
    for part, more in (
        ("authority", 'name = "a"\npublic_url = "https://a"\nstatic = "/srv/www/spot"\n'),
        ("server", 'authority = ["https://a"]\ngenesis = "' + "0" * 64 + '"\n'),
    ):
        (tmp_path / part).mkdir()
        (tmp_path / part / "settings.toml").write_text(
            f'port = 1\nkey_file = "/root/key.pem"\ndatabase = "postgresql://spot@/spot?host={tmp_path}/socket"\n{more}'
        )
    monkeypatch.setattr(systemd, "HOMES", ("/root",))
    authority, server = map(systemd.unit, plans := systemd.plans(tmp_path))
    for part, text in (("authority", authority), ("server", server)):
        lines = text.splitlines()
        assert f"TemporaryFileSystem={tmp_path}:ro" in lines
        assert f"BindPaths={tmp_path / part}" in lines
        assert "BindReadOnlyPaths=/root/key.pem" in lines
        assert f"BindReadOnlyPaths={tmp_path}/socket" in lines
    assert "BindPaths=/srv/www/spot" in authority
    assert "/srv/www" not in server
    assert "install -d -o alice /srv/www/spot" in systemd.steps(plans)
    with pytest.raises(Misuse, match="another folder"):
        systemd.unit(replace(PLAN, folder=Path("/srv/a:b/server")))


def test_whom_it_does_not_run_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    told = f'port = 1\nauthority = ["https://a"]\ngenesis = "{"0" * 64}"\n'
    (tmp_path / "server" / "settings.toml").write_text(told)
    monkeypatch.setattr(Path, "owner", lambda path: "root")
    with pytest.raises(Misuse, match="no part runs as root"):
        systemd.plans(tmp_path)
    monkeypatch.setattr(Path, "owner", lambda path: "alice")
    (plan,) = systemd.plans(tmp_path)
    assert plan.command[-3:] == ("server", "run", str(tmp_path / "server"))
    assert plan.user == "alice"
