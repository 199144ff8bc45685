"""The systemd service: its unit before systemd's own tools, and what a service manager is told of a real agent."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import cli, notify, sealing, systemd
from agent import service as module
from agent.notify import Nobody, Systemd, open_manager
from agent.service import PAUSED, Service
from agent.systemd import Plan
from ble.radio import Radio, RadioError, Reason
from ble.simulated import Air, Conditions
from protocol.errors import Misuse, NotJoined
from tests.agent import joined
from tests.agent.clocks import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.store import Store

EXPOSURE = 1.5  # of 10; systemd calls up to 2 "OK" and up to 1 "safe", which takes a private network
ODD = '/home/o d/100% $HOME a:b "c" \\d/spot'

linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def made_plan(folder: str = "/home/alice/.local/share/spot", user: str = "daemon") -> Plan:
    command = ("/usr/bin/env", "-m", "agent", "--data-dir", folder, "run")
    program = (Path("/home/alice/.local/share/pipx/venvs/spot-agent"), Path("/usr"), Path("/home/alice/.local"))
    return Plan(Path(folder), user, command, program, grouped=False)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def analyze(folder: Path, text: str, *words: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.fail("needs systemd-analyze: apt-get install systemd")
    path = folder / systemd.NAME
    path.write_text(text)
    done = subprocess.run([program, "--no-pager", *words, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


# --- the unit ---


@linux
def test_systemd_grades_the_unit(tmp_path: Path) -> None:
    said = analyze(tmp_path, systemd.unit(replace(made_plan(), grouped=True)), "security", "--offline=true")
    found = re.search(r"Overall exposure level for spot.service: ([\d.]+)", said)
    assert found
    assert float(found[1]) <= EXPOSURE, said


@linux
@pytest.mark.parametrize("folder", ["/home/alice/.local/share/spot", "/var/lib/spot", ODD])
def test_systemd_understands_the_unit(tmp_path: Path, folder: str) -> None:
    said = analyze(tmp_path, systemd.unit(made_plan(folder)), "verify")
    assert "spot.service" not in said, said


def test_only_what_it_needs_is_there_for_it() -> None:
    found = lines(systemd.unit(made_plan()))
    assert "BindPaths=/home/alice/.local/share/spot" in found
    assert "BindReadOnlyPaths=/home/alice/.local" in found, "the outermost of two"
    assert not any(line.startswith("ReadWritePaths") for line in found)
    assert {"User=daemon", "LimitCORE=0", "MemorySwapMax=0"} <= set(found)
    assert not any("bluetooth" in line for line in found if line.startswith("SupplementaryGroups"))
    elsewhere = lines(systemd.unit(replace(made_plan("/var/lib/spot"), grouped=True, program=(Path("/opt/spot"),))))
    assert "ReadWritePaths=/var/lib/spot" in elsewhere
    assert "SupplementaryGroups=bluetooth" in elsewhere
    assert not any(line.startswith("Bind") for line in elsewhere)


def test_paths_that_need_quotes() -> None:
    found = lines(systemd.unit(made_plan(ODD)))
    assert r'BindPaths="/home/o d/100%% $HOME a:b \"c\" \\d/spot"' in found
    (start,) = [line for line in found if line.startswith("ExecStart=")]
    assert r'"/home/o d/100%% $$HOME a:b \"c\" \\d/spot"' in start
    with pytest.raises(Misuse, match="cannot be told"):
        systemd.unit(made_plan("/home/a\nUser=root"))


def test_it_runs_as_the_owner_of_the_folder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "owner", lambda path: "alice")
    made = systemd.plan(store.folder)
    assert made.user == "alice"
    assert made.command[-3:] == ("--data-dir", str(store.folder), "run")
    assert Path(made.command[0]) == Path(sys.executable)
    assert any(Path(cli.__file__).is_relative_to(place) for place in made.program)


def test_whom_it_does_not_run_for(store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "owner", lambda path: "root")
    with pytest.raises(Misuse, match="does not run as root"):
        systemd.plan(folder)
    (folder / sealing.KEY_FILE).rename(tmp_path / "key")
    with pytest.raises(Misuse, match="keyring"):
        systemd.plan(folder)
    with pytest.raises(NotJoined):
        systemd.plan(tmp_path)


# --- installing ---


def test_what_installing_takes(tmp_path: Path) -> None:
    steps = systemd.install_steps(made_plan(), tmp_path)
    said = [str(step) for step in steps]
    assert said[0] == f"write {tmp_path}/spot.service"
    assert said[1:] == ["systemctl daemon-reload", "systemctl enable spot.service", "systemctl restart spot.service"]
    steps[0].take()
    assert (tmp_path / "spot.service").read_text() == systemd.unit(made_plan())
    assert (tmp_path / "spot.service").stat().st_mode & 0o777 == 0o644
    undo = systemd.uninstall_steps(tmp_path)
    assert str(undo[0]) == "systemctl disable --now spot.service"
    undo[1].take()
    undo[1].take()
    assert not (tmp_path / "spot.service").exists()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that notes what it is asked, and does what it is told."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_installing_and_removing(systemctl: Path, tmp_path: Path) -> None:
    for step in (*systemd.install_steps(made_plan(), tmp_path), *systemd.uninstall_steps(tmp_path)):
        step.take()
    asked = systemctl.with_name("systemctl.log").read_text().splitlines()
    assert [line.removeprefix("--no-pager ") for line in asked] == [
        "daemon-reload",
        "enable spot.service",
        "restart spot.service",
        "disable --now spot.service",
        "daemon-reload",
    ]


def test_systemctl_that_refuses_hangs_or_is_missing(
    systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl.write_text("#!/bin/sh\necho 'Job failed.' >&2; exit 1\n")
    with pytest.raises(Misuse, match=r"restart: Job failed; see: journalctl"):
        systemd.systemctl("restart", "x")
    systemctl.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(systemd, "SECONDS", 0.1)
    with pytest.raises(Misuse, match="did not end"):
        systemd.systemctl("restart", "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misuse, match="no systemctl"):
        systemd.systemctl("restart", "x")


def test_the_service_as_systemd_has_it(systemctl: Path) -> None:
    systemctl.write_text("#!/bin/sh\nprintf 'LoadState=loaded\\nStatusText=on air, 2 = two\\n'\n")
    assert systemd.state() == {"LoadState": "loaded", "StatusText": "on air, 2 = two"}


def test_a_machine_without_systemd_or_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misuse, match="--print"):
        systemd.check_machine([], booted=tmp_path / "none")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Misuse, match=r"run: sudo \S+ -P -m agent --data-dir /x service install"):
        systemd.check_machine(["--data-dir", "/x", "service", "install"], booted=tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    systemd.check_machine([], booted=tmp_path)


# --- what systemd is told ---


class Hearer:
    """The socket that systemd would have."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.said: list[str] = []

    def heard(self) -> list[str]:
        while True:
            try:
                self.said += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.said

    def new(self) -> list[str]:
        self.heard()
        said, self.said = self.said, []
        return said


@pytest.fixture
def hearer(tmp_path: Path) -> Iterator[Hearer]:
    made = Hearer(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def manager(hearer: Hearer, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"), watchdog=0.2)
    yield made
    made.stopping()


class Mute(Radio):
    """A radio that fails, or never answers."""

    tx_power = 0
    dropped = 0

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs

    async def advertise(self, block: bytes | None) -> None:
        if block is not None and self.hangs:
            await asyncio.Event().wait()
        if block is not None:
            raise RadioError(Reason.ABSENT, "There is no adapter.\nPlug one in.")

    async def sightings(self):  # type: ignore[no-untyped-def]
        await asyncio.Event().wait()
        yield

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FLUSH", 0.01), ("CONTROL", 0.01), ("SYNC_POLL", 3600.0)):
        monkeypatch.setattr(module, name, seconds)


def make_service(store: Store, radio: Radio, clock: VirtualClock, manager: Systemd) -> Service:
    return Service(store, radio, joined.world().curve, random.SystemRandom(), clock, manager=manager)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_ready_once_on_air_alive_while_it_runs_and_stopping(
    store: Store, hearer: Hearer, manager: Systemd
) -> None:
    clock = VirtualClock()
    radio = Air(clock, Conditions(loss=0.0)).radio("agent", (0, 0))
    task = asyncio.create_task(make_service(store, radio, clock, manager).run())
    await eventually(lambda: "READY=1" in hearer.heard())
    assert "STATUS=on air" in hearer.heard(), "how many are near is for its owner only; systemd tells it everybody"
    hearer.new()
    await eventually(lambda: hearer.heard().count("WATCHDOG=1") >= 3)
    assert set(hearer.new()) == {"WATCHDOG=1"}, "the rest only when it changes"
    store.put(PAUSED, True)
    await eventually(lambda: "STATUS=paused" in hearer.heard())
    await eventually(lambda: hearer.heard()[-1] == "WATCHDOG=1")
    await end(task)
    assert hearer.heard()[-1] == "STOPPING=1"


async def test_ready_where_the_radio_is_absent_and_says_so(store: Store, hearer: Hearer, manager: Systemd) -> None:
    task = asyncio.create_task(make_service(store, Mute(hangs=False), VirtualClock(), manager).run())
    await eventually(lambda: "READY=1" in hearer.heard())
    assert any(line.startswith("STATUS=not on air: There is no adapter. Plug") for line in hearer.heard())
    await end(task)


async def falls_silent(hearer: Hearer) -> None:
    """Wait until nothing more is said."""
    for _ in range(40):
        hearer.new()
        await asyncio.sleep(0.3)
        if not hearer.new():
            return
    pytest.fail("signs of life go on")


async def test_no_sign_of_life_from_a_loop_that_hangs(
    store: Store, hearer: Hearer, manager: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    radio = Air(clock, Conditions(loss=0.0)).radio("agent", (0, 0))
    service = make_service(store, radio, clock, manager)
    task = asyncio.create_task(service.run())
    await eventually(lambda: "WATCHDOG=1" in hearer.heard())
    monkeypatch.setattr(module, "CONTROL", 3600.0)  # the loop's next sleep does not end; the other tasks go on
    await falls_silent(hearer)  # systemd hears nothing, and starts it anew
    await end(task)


async def test_no_sign_of_life_where_it_is_neither_on_air_nor_says_why(
    store: Store, hearer: Hearer, manager: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(make_service(store, Mute(hangs=True), VirtualClock(), manager).run())
    await eventually(lambda: "WATCHDOG=1" in hearer.heard())
    monkeypatch.setattr(notify, "STUCK", 0.2)  # only now: where starting takes longer, there would be no first sign
    await falls_silent(hearer)
    assert "READY=1" not in hearer.heard()
    await end(task)


def test_without_a_service_manager() -> None:
    assert isinstance(open_manager({}), Nobody)
    assert isinstance(open_manager({"NOTIFY_SOCKET": "vsock:2:1"}), Nobody)
    Nobody().tell(on_air=True, paused=False, problem="")
    Nobody().stopping()


@linux
def test_an_address_outside_of_the_file_system_and_a_watchdog_for_another_process() -> None:
    name = f"spot-test-{os.getpid()}"
    hearer = Hearer(f"\0{name}")
    environment = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    manager = open_manager(environment)
    assert environment == {}, "children are not to speak for this process"
    manager.tell(on_air=True, paused=False, problem="")
    assert hearer.new() == ["READY=1", "STATUS=on air"]
    mine = open_manager({"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())})
    mine.tell(on_air=False, paused=False, problem="")
    assert hearer.new() == ["STATUS=starting", "WATCHDOG=1"]
    hearer.socket.close()
    manager.tell(on_air=False, paused=True, problem="")
    manager.stopping()
    mine.stopping()


# --- the commands ---


def spot(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "--data-dir", str(folder), "service", *words]
    return subprocess.run(
        command, env=os.environ | {"SPOT_KEY": "file", "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )


@linux
def test_the_unit_is_printed(store: Store) -> None:
    if os.geteuid() == 0:
        for path in (store.folder, *store.folder.iterdir()):
            os.chown(path, 1, 1)
    done = spot(store.folder, "install", "--print")
    assert done.returncode == 0, done
    assert done.stdout.startswith("# Made by")
    dry = spot(store.folder, "install", "--dry-run")
    assert dry.stdout.splitlines()[0] == "write /etc/systemd/system/spot.service"
    assert not (systemd.UNITS / systemd.NAME).exists()


@linux
def test_nothing_is_installed_without_an_agent(folder: Path) -> None:
    done = spot(folder, "install")
    assert (done.returncode, done.stderr.count("\n")) == (30, 1), done
    assert spot(folder, "uninstall").returncode == 2
