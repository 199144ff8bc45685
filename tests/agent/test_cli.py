"""The command `spot`, as a person runs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent import __main__ as entry
from agent import cli, service, systemd
from agent.following import read_status
from agent.kept import State
from agent.settings import FILE
from protocol import chain, hashing, messages, parameters
from protocol.errors import KeyChanged
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.joined import met
from tests.agent.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.store import Store

COMMANDS = [
    "join", "run", "pause", "resume", "contacts", "sync", "declare", "exposure", "status", "leave", "export", "import",
]  # fmt: skip
CODE = "ABCD-EFGH-IJKL-2345"
SLEEP = 0.05
PUBLIC = re.compile(r"(fingerprint is|such as) \S+")
"""What looks like a code in an error's text, and is none."""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, on the test world's day."""
    command = [sys.executable, "-m", "agent", "--data-dir", str(folder), *arguments]
    pipe = subprocess.PIPE
    environment = os.environ | {"SPOT_KEY": "file", "COLUMNS": "200", "SPOT_CLOCK": f"1@0/{NOON - time.time()}"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


class Spot:
    """Runs the command in this process, which is quicker, or in one of its own. It may end by its exit code only."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: list[str]
    ) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        self.outputs = outputs

    def __call__(self, *arguments: str, said: str = "") -> tuple[int, str, str]:
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["spot", "--data-dir", str(self.folder), *arguments])
            patched.setattr(sys, "stdin", io.StringIO(said))
            patched.setattr("setproctitle.setproctitle", lambda title: None)
            patched.setenv("SPOT_KEY", "file")
            patched.setenv("SPOT_CLOCK", f"1@0/{NOON - time.time()}")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        output, errors = self.capsys.readouterr()
        self.outputs.append(PUBLIC.sub("", errors))
        assert isinstance(ended.value.code, int)
        return ended.value.code, output, errors

    def alone(self, *arguments: str, said: str = "") -> tuple[int, str, str]:
        with start(self.folder, *arguments) as process:
            output, errors = process.communicate(said, timeout=60)
        self.outputs.append(PUBLIC.sub("", errors))
        assert "Traceback" not in output + errors
        return process.returncode, output, errors


@pytest.fixture
def spot(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep_output: list[str]
) -> Spot:
    return Spot(folder, monkeypatch, capsys, keep_output)


def facts(output: str) -> dict[str, object]:
    found = json.loads(output)
    assert isinstance(found, dict)
    return found


# --- before joining ---


def test_without_a_command_it_says_what_it_is(spot: Spot) -> None:
    process = subprocess.run([sys.executable, "-m", "agent"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "spot join URL" in process.stdout
    assert process.stderr == ""


def test_installed_as_spot() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="spot")
    assert command.load() is entry.main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(spot: Spot, command: str) -> None:
    code, output, errors = spot(command, "--help")
    assert (code, errors) == (0, "")
    assert "Usage:" in output
    assert not spot.folder.exists(), "looking makes nothing"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["pause"],
        ["resume"],
        ["contacts"],
        ["sync"],
        ["declare", CODE],
        ["exposure"],
        ["status"],
        ["leave"],
        ["export", "FILE"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_needs_joining_first(spot: Spot, arguments: list[str]) -> None:
    code, output, errors = spot.alone(*arguments)
    assert (code, output) == (30, "")
    assert errors.startswith("error: there is no agent in")
    assert errors.count("\n") == 1
    assert not spot.folder.exists()


@pytest.mark.parametrize("command", ["contacts", "sync", "exposure", "status"])
def test_errors_as_json(spot: Spot, command: str) -> None:
    code, output, errors = spot(command, "--json")
    assert code == 30
    assert facts(output)["error"] == "not-joined"
    assert str(facts(output)["detail"]) in errors


@pytest.mark.parametrize("arguments", [["stat"], ["status", "--jason"], ["join"], ["contacts", "--day"]])
def test_what_is_mistyped(spot: Spot, arguments: list[str]) -> None:
    code, _, errors = spot(*arguments)
    assert code == 2
    assert "Error" in errors


@pytest.mark.parametrize(
    ("settings", "word"), [('radio = "wifi"', "radio"), ("= 1", "TOML"), ("correction = nan", "correction")]
)
def test_a_wrong_setting(spot: Spot, settings: str, word: str) -> None:
    spot.folder.mkdir()
    (spot.folder / FILE).write_text(settings)
    code, _, errors = spot("status")
    assert code == 2
    assert word in errors


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://127.0.0.1:9", 20), ("spot.example", 10), ("http://a..b", 10), ("ftp://spot.example", 10), ("", 10)],
)
def test_joining_nobody(spot: Spot, url: str, expected: int) -> None:
    code, output, _ = spot("join", url, "--invite", "x", "--yes", "--json")
    assert code == expected
    assert "error" in facts(output)
    assert not spot.folder.exists()


# --- joining ---


class Authority:
    """Shows its parameters, and never answers to anything else."""

    def __init__(self) -> None:
        self.name = "Example authority"
        self.asked: list[str] = []
        self.over = threading.Event()
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                here.asked.append(self.path)
                body = here.documents()[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                here.asked.append(self.path)
                here.over.wait()

            def log_message(self, *values: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def link(self) -> messages.Link:
        return parameters.sign(
            joined.world().chain_key, msgspec.structs.replace(joined.world().parameters, authority=self.name)
        )

    def documents(self) -> dict[str, bytes]:
        link = self.link()
        head = messages.Head(number=0, hash=chain.hash_of(hashing.PARAMETERS, link))
        heads = messages.Heads(parameters=head, publications=chain.EMPTY)
        return {
            messages.HEADS_PATH: messages.encode(heads),
            messages.PARAMETERS_PATH.format(number=0): messages.encode(link),
        }

    @property
    def fingerprint(self) -> str:
        return chain.fingerprint(chain.hash_of(hashing.PARAMETERS, self.link()))


@pytest.fixture
def authority() -> Iterator[Authority]:
    made = Authority()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.over.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_fingerprint_that_is_not_agreed_to(spot: Spot, authority: Authority) -> None:
    code, output, errors = spot("join", authority.url, "--invite", "x", said="n\n")
    assert code == 2
    assert authority.fingerprint in output
    assert "not joined" in errors
    assert not spot.folder.exists()


@pytest.mark.parametrize("given", ["0000", "-", "\u2003"])
def test_another_fingerprint(spot: Spot, authority: Authority, given: str) -> None:
    code, output, _ = spot("join", authority.url, "--invite", "x", "--fingerprint", given, "--yes", "--json")
    assert code == 2
    assert authority.fingerprint in str(facts(output)["detail"])
    assert not spot.folder.exists()


def test_an_authoritys_name_forges_no_fingerprint(spot: Spot, authority: Authority) -> None:
    authority.name = "Health [/bold]\x1b[2J\r\nFingerprint  GOOD-GOOD\u202e[bold"
    code, output, _ = spot("join", authority.url, "--invite", "x", said="n\n")
    assert code == 2
    lines = output.splitlines()
    assert lines[0] == "Authority    Health [/bold]?[2J??Fingerprint  GOOD-GOOD?[bold"
    assert lines[1] == f"Fingerprint  {authority.fingerprint}"


def cmdline(process: subprocess.Popen[str]) -> bytes:
    return Path(f"/proc/{process.pid}/cmdline").read_bytes()


@contextlib.contextmanager
def interrupted(process: subprocess.Popen[str]) -> Iterator[None]:
    with process:
        try:
            yield
        finally:
            process.kill()


def test_an_invitation_does_not_stay_in_the_process_list(spot: Spot, authority: Authority) -> None:
    invitation = "MY-SECRET-INVITATION"
    process = start(spot.folder, "join", authority.url, "--invite", invitation, "--yes")
    with interrupted(process):
        while messages.NONCE_PATH not in authority.asked:
            assert process.poll() is None
            time.sleep(SLEEP)
        assert invitation.encode() not in cmdline(process)
        assert authority.url.encode() not in cmdline(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


# --- once joined ---


def test_status_of_a_fresh_agent(spot: Spot, store: Store) -> None:
    code, output, _ = spot("status", "--json")
    found = facts(output)
    assert code == 0
    assert (found["running"], found["on_air"], found["paused"], found["authority"]) == (
        False,
        False,
        False,
        "Example authority",
    )
    assert found["parameters"] == {"number": 0, "fingerprint": found["fingerprint"]}, "the genesis is the newest"
    assert found["publications"] == {"number": -1, "fingerprint": "-".join(["AAAA"] * 8)}, "none yet"
    code, output, _ = spot("status")
    assert code == 0
    assert "not running" in output


def test_pause_and_resume(spot: Spot, store: Store) -> None:
    assert spot("pause")[0] == 0
    assert store.get(service.PAUSED, bool) is True
    assert facts(spot("status", "--json")[1])["paused"] is True
    assert "start the agent with: spot run" in spot("resume")[1]
    assert store.get(service.PAUSED, bool) is None


def test_contacts(spot: Spot, store: Store) -> None:
    assert "No contacts yet" in spot("contacts")[1]
    store.keep_encounters([met("today"), met("yesterday", first=NOON - 86400)])
    found = json.loads(spot("contacts", "--json")[1])
    assert [(one["day"], one["minutes"], one["near_minutes"], one["state"]) for one in found] == [
        ("2024-10-03", 2.0, 3.1, "open"),
        ("2024-10-04", 2.0, 3.1, "open"),
    ]
    assert len(json.loads(spot("contacts", "--json", "--day", "2024-10-04")[1])) == 1
    assert "under way" in spot("contacts")[1]
    code, _, errors = spot("contacts", "--day", "yesterday")
    assert code == 2
    assert "2026-11-22" in errors


def test_exposure_and_warning(spot: Spot, store: Store) -> None:
    assert facts(spot("exposure", "--json")[1]) == {"warned": False, "warn_at": 15.0, "days": []}
    store.keep_encounters([met(span=595)])
    store.keep_publication(messages.Head(number=0, hash=bytes(32)), [(1, 1)])
    day = {"day": "2024-10-04", "encounters": 1, "minutes": 10.0, "risk": 15.0, "warning": True}
    assert facts(spot("exposure", "--json")[1])["days"] == [day]
    assert "Warning for 2024-10-04" in spot("exposure")[1]
    (explained,) = json.loads(spot("exposure", "--explain", "--json")[1])["explained"]
    assert sum(one["score"] for one in explained["exposures"]) == pytest.approx(day["risk"], abs=0.05)
    assert "× nearness" in spot("exposure", "--explain")[1]


def test_sync_without_a_backend(spot: Spot, store: Store) -> None:
    code, output, _ = spot("sync", "--json")
    assert code == 1
    assert "cannot be reached" in str(facts(output)["problem"])
    assert spot("sync")[0] == 1


def test_there_is_nothing_to_declare(spot: Spot, store: Store) -> None:
    code, _, errors = spot("declare", CODE)
    assert code == 2
    assert "no signed contact" in errors
    assert spot("declare", "too short")[0] == 10


def signed(store: Store) -> None:
    store.keep_encounters([replace(met(), state=State.WAITING)])
    record = messages.encode(joined.world().contacts[0].record)
    store.settle(store.encounters()[0], State.SIGNED, record=record)


def test_declaring_shows_what_would_leave_and_asks(spot: Spot, store: Store) -> None:
    signed(store)
    code, output, errors = spot("declare", CODE, said="n\n")
    assert code == 2
    assert "What leaves this device" in output
    assert "2024-10-04" in output
    assert "nothing was sent" in errors
    assert "not signed yet" not in output
    assert spot("declare", CODE, "--days", "2024-10-01", "--yes")[0] == 2
    assert store.reports() == []


def test_declaring_says_which_near_contacts_come_too_late(spot: Spot, store: Store) -> None:
    signed(store)
    store.keep_encounters([replace(one, state=State.WAITING) for one in (met("late"), met("far", attenuation=90.0))])
    output = spot("declare", CODE, said="n\n")[1]
    assert "1 more near contacts are not signed yet, the latest of 2024-10-04" in output


def test_declaring_looks_for_newer_parameters_first_where_those_known_have_run_out(spot: Spot, store: Store) -> None:
    signed(store)
    joined.move_on(store, issued_at=int(NOON) - 60, valid_until=int(NOON) - 1)
    code, _, errors = spot("declare", CODE, "--yes")
    assert code == KeyChanged.exit_code
    assert "run out" in errors
    assert read_status(store).tried > 0
    assert store.reports() == []


def test_a_report_code_does_not_stay_in_the_process_list(spot: Spot, store: Store) -> None:
    signed(store)
    process = start(spot.folder, "declare", CODE)
    with interrupted(process):
        assert process.stdout
        while "What leaves" not in process.stdout.readline():
            assert process.poll() is None
        assert CODE.encode() not in cmdline(process)


def test_strangers_texts_do_not_steer_the_terminal(spot: Spot, tmp_path: Path) -> None:
    spot.folder = tmp_path / "data[/x]"
    store = joined.make_store(spot.folder)
    body = messages.decode(messages.Parameters, joined.link_of().body)
    named = msgspec.structs.replace(body, authority="[/a]\x1b[2J")
    joined.join(store, parameters.sign(joined.world().chain_key, named))
    store.keep_encounters([replace(met(), state=State.WAITING)])
    store.settle(store.encounters()[0], State.PENDING, problem="[/b] [red")
    for command in ("status", "contacts", "exposure", "pause"):
        code, output, _ = spot.alone(command)
        assert code == 0
        assert "\x1b" not in output
        if command == "status":
            assert "[/a]?[2J" in output
            assert "[/b] [red" in output
            assert "data[/x]" in output
    store.settle(store.encounters()[0], State.SIGNED, record=b"record")
    store.close()
    assert "[/a]?[2J" in spot("declare", CODE, said="n\n")[1]


# --- running ---


def test_run_until_interrupted(spot: Spot, store: Store) -> None:
    process = start(spot.folder, "run", "--radio", "simulated", "--verbose")
    with interrupted(process):
        while not (said := store.get(service.SERVICE, service.ServiceStatus)) or not said.on_air:
            assert process.poll() is None
            time.sleep(SLEEP)
        assert said.pid == process.pid
        found = facts(spot("status", "--json")[1])
        assert (found["running"], found["on_air"]) == (True, True)
        code, _, errors = spot.alone("run", "--radio", "simulated")
        assert code == 31
        assert "already running" in errors
        assert spot("pause")[0] == spot("resume")[0] == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    spot.outputs.append(errors)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "running; epoch 900 s" in errors
    assert facts(spot("status", "--json")[1])["running"] is False


# --- moving ---


@pytest.fixture
def words(tmp_path: Path) -> str:
    """The option that names a file with a passphrase."""
    file = tmp_path / "words"
    file.touch(mode=0o600)
    file.write_text("correct horse battery staple\n")
    return f"--passphrase-file={file}"


def test_moving_to_another_device(spot: Spot, store: Store, tmp_path: Path, words: str) -> None:
    signed(store)
    file = tmp_path / "moved.spot"
    code, _, errors = spot("export", str(file), words, said="n\n")
    assert (code, errors) == (2, "error: nothing was moved\n")
    code, output, _ = spot("export", str(file), words, said="y\n")
    assert code == 0
    assert "will be retired" in output
    assert "spot import FILE" in output
    for command in (["run"], ["sync"], ["declare", CODE], ["exposure"]):
        code, output, errors = spot(*command)
        assert (code, output) == (34, "")
        assert "moved to another device" in errors
        assert "spot export --undo" in errors
    assert "retired" in spot("status")[1]
    assert facts(spot("status", "--json")[1])["moved"] == pytest.approx(NOON, abs=300)

    new = Spot(tmp_path / "new", spot.monkeypatch, spot.capsys, spot.outputs)
    code, output, _ = new("import", str(file), words, "--json")
    assert code == 0
    moved = facts(output)
    assert (moved["contacts"], moved["signed"], moved["first_day"]) == (1, 1, "2024-10-04")
    assert facts(new("status", "--json")[1])["moved"] is None
    assert new("exposure")[0] == 0
    code, _, errors = new("import", str(file), words)
    assert code == 2
    assert "not overwritten" in errors

    assert spot("export", "--undo", said="n\n")[0] == 2
    assert spot("exposure")[0] == 34
    assert spot("export", "--undo", "--yes")[0] == 0
    assert spot("exposure")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export"], "spot export FILE"),
        (["export", "FILE", "--yes"], "--passphrase-file"),
        (["export", "FILE", "--yes", "--passphrase-file", "NOWHERE"], "cannot be read as a passphrase"),
        (["export", "--undo", "--yes"], "nothing to undo"),
        (["import", "NOWHERE"], "not overwritten"),
    ],
    ids=" ".join,
)
def test_what_is_asked_wrongly_moves_nothing(spot: Spot, store: Store, arguments: list[str], said: str) -> None:
    code, _, errors = spot(*arguments)
    assert code == 2
    assert said in errors
    assert spot("exposure")[0] == 0


def test_a_passphrase_that_others_can_read_is_refused(spot: Spot, store: Store, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("correct horse battery staple")
    (tmp_path / "words").chmod(0o644)
    code, _, errors = spot("export", str(tmp_path / "file"), "--yes", "--passphrase-file", str(tmp_path / "words"))
    assert code == 32
    assert "chmod 600" in errors


@pytest.mark.parametrize("arguments", [["--radio", "wifi"], ["--radio", "simulated", "--adapter"]])
def test_running_with_a_wrong_option(spot: Spot, store: Store, arguments: list[str]) -> None:
    assert spot("run", *arguments)[0] == 2


def test_leaving_stops_the_running_agent_and_deletes_everything(spot: Spot, store: Store) -> None:
    store.keep_encounters([met()])
    process = start(spot.folder, "run", "--radio", "simulated")
    with interrupted(process):
        while not store.get(service.SERVICE, service.ServiceStatus):
            assert process.poll() is None
            time.sleep(SLEEP)
        assert spot("leave", said="n\n")[0] == 2
        assert process.poll() is None
        store.close()
        code, output, _ = spot("leave", "--yes")
        assert (code, "everything is deleted" in output) == (0, True)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert not spot.folder.exists()
    assert spot("status")[0] == 30


def test_leaving_that_was_cut_short_is_finished_by_leaving_again(spot: Spot, store: Store) -> None:
    store.close()
    for name in ("store.key", "store.db"):
        (spot.folder / name).unlink()
    for name in ("store.db-wal", "store.db-shm", "run.lock"):
        (spot.folder / name).write_bytes(b"left")
    (spot.folder / "moving-x").mkdir()
    (spot.folder / "moving-x" / "store.db").write_bytes(b"left")
    assert spot("leave", "--yes")[0] == 0
    assert not spot.folder.exists()
    assert spot("leave", "--yes")[0] == 30


def test_leaving_overwrites_the_key_before_it_deletes_it(spot: Spot, store: Store, tmp_path: Path) -> None:
    store.close()
    beside = tmp_path / "the same place on the disk"
    beside.hardlink_to(spot.folder / "store.key")
    assert any(beside.read_bytes())
    assert spot("leave", "--yes")[0] == 0
    assert beside.read_bytes() == bytes(32)


@pytest.mark.parametrize("installed", [True, False])
def test_leaving_says_that_the_service_is_still_there(
    spot: Spot, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    store.close()
    monkeypatch.setattr(systemd, "UNITS", tmp_path)
    if installed:
        (tmp_path / systemd.NAME).touch()
    assert ("spot service uninstall" in spot("leave", "--yes")[1]) is installed


def test_leaving_keeps_the_settings(spot: Spot, store: Store) -> None:
    store.close()
    (spot.folder / FILE).write_text("tx_power = 4\n")
    assert spot("leave", "--yes")[0] == 0
    assert [path.name for path in spot.folder.iterdir()] == [FILE]


def test_leaving_a_store_that_cannot_be_opened(spot: Spot, store: Store) -> None:
    store.close()
    (spot.folder / "store.key").unlink()
    code, _, errors = spot("status")
    assert code == 32
    assert "spot leave" in errors
    assert spot("leave", "--yes")[0] == 0
    assert not spot.folder.exists()
