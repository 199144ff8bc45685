"""The command line: what it makes, what it says, and how it fails."""

from __future__ import annotations

import asyncio
import datetime
import json
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from backend_stub import cli, settings
from backend_stub.clock import ScaledClock
from protocol import messages
from protocol.declaration import normal_code
from protocol.timescale import Timescale
from tests.support import world_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spot-backend", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    code, _, _ = run("init", tmp_path / "demo", "--port", 0)
    assert code == 0
    return tmp_path / "demo"


def said_json(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0
    return json.loads(result[1])


def test_init_says_what_users_need(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("init", tmp_path / "demo", "--port", 0)
    assert code == 0
    assert "fingerprint" in out
    assert f"spot-backend up {tmp_path / 'demo'}" in out


def test_init_into_an_empty_folder(run: Run, tmp_path: Path) -> None:
    assert run("init", tmp_path, "--port", 0)[0] == 0
    assert settings.parts(tmp_path) == ["authority", "proxy-group-1-1", "proxy-group-2-1", "server"]


def test_init_with_everything_set(run: Run, tmp_path: Path) -> None:
    made = said_json(
        run(
            *("init", tmp_path / "demo", "--json", "--name", "Amt", "--port", 21_000, "--groups", 3),
            *("--proxies-per-group", 2, "--public-url", "https://example.org/{name}", "--clock", "120@1700000000"),
            *(
                "--set",
                "limits.epoch=60",
                "--set",
                'risk.bands=[{"below": 60, "weight": 2}]',
                "--set",
                "risk.warn_at=1",
            ),
        )
    )
    assert made["authority"] == "https://example.org/authority"
    assert made["server"] == "https://127.0.0.1:21001"
    assert len(made["proxies"]) == 6
    assert made["proxies"]["group-3-2"] == "https://example.org/group-3-2"
    shown = said_json(run("parameters", "show", tmp_path / "demo"))
    assert (shown["limits"]["epoch"], shown["risk"]["warn_at"]) == (60, 1.0)
    assert shown["risk"]["bands"] == [{"below": 60.0, "weight": 2.0}]
    told = settings.read_part(tmp_path / "demo" / "server")
    assert told.clock == "120@1700000000"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "limits.epoch"], "NAME=VALUE"),
        (["--set", "limits.epochs=1"], "there is no parameter 'limits.epochs'"),
        (["--set", "limits.epoch=1"], r"\$.limits.epoch"),
        (["--set", "risk.bands=[1]"], r"\$.risk.bands"),
        (["--set", "risk=cwa"], "there is no risk 'cwa'"),
        (["--set", 'risk.bands=[{"below": 9, "weight": 1}, {"below": 8, "weight": 1}]'], "rising order"),
        (["--groups", "0"], "1 to 64 groups"),
        (["--port", "65535"], "do not fit"),
        (["--clock", "fast"], "SPEED@ANCHOR"),
        (["--curve", "abacus"], "no curve maker"),
        (["--public-url", "ftp://x"], "public_url"),
        (["--pool-wait", "-1"], "pool_wait"),
    ],
)
def test_init_that_cannot_be_leaves_nothing(run: Run, tmp_path: Path, arguments: list[str], text: str) -> None:
    code, out, err = run("init", tmp_path / "demo", "--json", *arguments)
    assert code == 2
    assert json.loads(out)["error"] == "misuse"
    assert err.startswith("spot-backend: ")
    assert err.count("\n") == 1
    assert re.search(text, err)
    assert not list(tmp_path.iterdir())


def test_a_second_init_is_refused(run: Run, folder: Path) -> None:
    code, _, err = run("init", folder)
    assert code == 2
    assert "not empty" in err


@pytest.mark.parametrize(
    "command", [["up"], ["invite"], ["status"], ["code", "--onset", "2026-01-01"], ["parameters", "set", "a=1"]]
)
def test_a_missing_folder_is_one_line(run: Run, tmp_path: Path, command: list[str]) -> None:
    at = 2 if command[0] == "parameters" else 1
    code, _, err = run(*command[:at], tmp_path / "nothing", *command[at:])
    assert code == 2
    assert "there is no backend" in err
    assert err.count("\n") == 1


def test_invitations_and_codes(run: Run, folder: Path) -> None:
    invitations = said_json(run("invite", folder, "--count", 3, "--json"))["invitations"]
    assert len({normal_code(one) for one in invitations}) == 3
    assert normal_code(run("invite", folder)[1])
    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(1)
    assert normal_code(said_json(run("code", folder, "--onset", yesterday, "--json"))["code"])
    code, _, err = run("code", folder, "--onset", yesterday + datetime.timedelta(3))
    assert code == 2
    assert "cannot begin after today" in err
    found = said_json(run("status", folder, "--json"))["authority"]
    assert (found["invitations"], found["codes"], found["answers"]) == (4, 1, False)


def test_codes_are_listed_and_withdrawn_by_reference(run: Run, folder: Path) -> None:
    onset = datetime.datetime.now(datetime.UTC).date()
    made = said_json(run("code", folder, "--onset", onset, "--count", 3, "--json"))
    assert len(set(made["codes"])) == len(set(made["references"])) == 3
    assert run("code", "withdraw", folder, made["references"][0])[0] == 0
    assert said_json(run("code", "withdraw", folder, made["codes"][1].lower(), "--json"))
    listed = {one["reference"]: one for one in said_json(run("code", "list", folder, "--json"))}
    assert [listed[one]["state"] for one in made["references"]] == ["over", "over", "open"]
    assert {one["attempts"] for one in listed.values()} == {0}
    out = run("code", "list", folder)[1]
    assert str(onset) in out
    assert not any(code in out for code in made["codes"])
    for wrong in (made["references"][0], "nothing", "AAAA-AAAA-AAAA-AAAA"):
        code, _, err = run("code", "withdraw", folder, wrong)
        assert (code, err.count("\n")) == (2, 1)


def test_invitations_are_listed_and_withdrawn(run: Run, folder: Path) -> None:
    invitation = said_json(run("invite", "new", folder, "--json"))["invitations"][0]
    assert "open" in run("invite", "list", folder)[1]
    assert "withdrawn" in run("invite", "withdraw", folder, invitation)[1]
    assert [one["state"] for one in said_json(run("invite", "list", folder, "--json"))] == ["over"]
    assert run("invite", "list", folder)[1].count("\n") == 2


def test_parameters_set_appends_a_link(run: Run, folder: Path) -> None:
    assert said_json(run("parameters", "set", folder, "risk.warn_at=7", "--json"))["parameters"] == 1
    assert said_json(run("parameters", "show", folder))["risk"]["warn_at"] == 7
    assert "parameters number 2" in run("parameters", "set", folder, "risk.infectiousness=[0.5, 1.0]")[1]
    code, _, err = run("parameters", "set", folder, "risk.infectiousness=[0.5]")
    assert code == 10
    assert "has no weight" in err


def test_a_proxy_is_removed(run: Run, folder: Path) -> None:
    assert said_json(run("proxy", "remove", folder, "group-2-1", "--json"))["parameters"] == 1
    found = said_json(run("status", folder, "--json"))["authority"]
    assert (found["proxies"], found["proxies_removed"]) == (1, 1)
    code, _, err = run("proxy", "remove", folder, "group-2-1")
    assert code == 2
    assert "there are group-1-1" in err


def test_a_proxy_is_added_and_listed(run: Run, folder: Path) -> None:
    said = said_json(run("proxy", "add", folder, "--group", "group-1", "--name", "third", "--json"))
    assert said["folder"] == str(folder / "proxy-third")
    assert "proxy-third" in settings.parts(folder)
    told = settings.read_part(folder / "proxy-third")
    assert told.url == settings.local_url("127.0.0.1", told.port, tls=True)
    listed = said_json(run("proxy", "list", folder, "--json"))
    assert {one["name"]: one["state"] for one in listed} == {
        "group-1-1": "member",
        "third": "member",
        "group-2-1": "member",
    }
    assert "third" in run("proxy", "list", folder)[1]
    code, _, err = run("proxy", "add", folder, "--group", "group-1", "--name", "third")
    assert (code, err.count("\n")) == (2, 1)


def test_a_proxy_elsewhere_is_admitted_by_files(run: Run, folder: Path, tmp_path: Path) -> None:
    invitation, request, admission = (tmp_path / name for name in ("far.invitation", "far.request", "far.admission"))
    where = ("--group", "group-2", "--name", "far", "--url", "https://far.example")
    assert "fingerprint" in run("proxy", "invite", folder, *where, "--out", invitation)[1]
    code, out, _ = run("proxy", "request", invitation, tmp_path / "far", "--port", 21_999, "--out", request)
    assert code == 0
    assert "proxy admit" in out
    assert "proxy accept" in run("proxy", "admit", folder, request, "--out", admission)[1]
    assert run("proxy", "accept", tmp_path / "far", admission)[0] == 0
    assert (tmp_path / "far" / "keys" / "credential").exists()
    assert not (folder / "proxy-far").exists()
    for wrong in (("admit", folder, admission, "--out", request), ("accept", tmp_path / "far", invitation)):
        code, _, err = run("proxy", *wrong)
        assert code == 2
        assert "copy it again" in err


def test_a_signature_is_opened(run: Run, folder: Path) -> None:
    stranger = messages.encode(world_of("arkworks").contacts[0].record)
    code, _, err = run("proxy", "open", folder, stranger.hex())
    assert code == 11
    assert "proxy group" in err
    assert run("proxy", "open", folder, "what")[0] == 2


@pytest.mark.parametrize(
    "command", [[], ["init"], ["authority"], ["server"], ["proxy"], ["parameters"], ["up"], ["code"]]
)
def test_help_teaches(run: Run, command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: spot-backend" in out


def test_up_until_a_signal(folder: Path, run: Run) -> None:
    """All parts in one process of their own; the other commands work on it meanwhile."""
    for part in (["up", str(folder)], ["authority", "run", str(folder / "authority")]):
        with subprocess.Popen(
            [sys.executable, "-c", "from backend_stub.cli import main; main()", *part],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                deadline = time.monotonic() + 30
                while not said_json(run("status", folder, "--json"))["authority"]["answers"]:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                assert run("invite", folder)[0] == 0
                process.send_signal(signal.SIGTERM)
                out, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 0, out
        assert "Traceback" not in out
        assert "authority listens at 127.0.0.1" in out


async def test_a_scaled_clock_runs_fast() -> None:
    anchor = time.time() - 10
    clock = ScaledClock(Timescale(1000, anchor))
    before = clock.now()
    assert before >= anchor + 10_000
    await asyncio.wait_for(clock.sleep(50), timeout=30)
    assert clock.now() >= before + 50
