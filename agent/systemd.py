"""The agent as a systemd service: the unit, and how it is installed and removed.

It runs as whoever owns the data folder, not as a user of its own: so `spot status`, `spot exposure` and the other
commands go on working for that person, the key's file stays readable by them alone, and where root installed the
program into their home it is found. (DynamicUser would take the folder away from them; a dedicated user is had by
joining as one: then the folder is theirs.) BlueZ is reached over the system bus; where the distribution lets the group
bluetooth do so, the service is in it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import agent
from agent import sealing
from agent import store as storage
from protocol.errors import Misuse, NotJoined, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "spot.service"
UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # is there where systemd is process 1
SECONDS = 90.0  # for one call of systemctl; stopping the agent is a matter of seconds
WATCHDOG = 120  # seconds without a sign of life until systemd ends the agent and starts it anew
HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= hides
GROUP = "bluetooth"

_UNIT = """\
# Made by `spot service install`, which overwrites it; changes of your own: systemctl edit spot
[Unit]
Description=SPOT contact tracing agent
After=bluetooth.service network.target time-sync.target
# However long the adapter or the disk is missing: an agent that gave up would warn nobody.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
{groups}Restart=on-failure
RestartSec=10
# Asked for something impossible, not joined, or moved to another device: trying again would not help.
RestartPreventExitStatus=2 30 34
WatchdogSec={watchdog}
TimeoutStartSec=120
UMask=0077

# It needs its folder, its own program, D-Bus to BlueZ, and the network to the backend. Nothing else is there for it.
ProtectSystem=strict
ProtectHome=tmpfs
{binds}PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProcSubset=pid
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
# The keys of an epoch are in its memory: it must not get on a disk.
LimitCORE=0
MemorySwapMax=0
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
KeyringMode=private
# Not RemoveIPC=yes: it would remove what this user's other programs share.
# Not PrivateUsers=yes: where user namespaces cannot be had, as in a chroot, the start fails with it (status 217).

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the unit says. program: files that it is made of; grouped: whether the group bluetooth exists."""

    folder: Path
    user: str
    command: tuple[str, ...]
    program: tuple[Path, ...]
    grouped: bool = False


def is_installed() -> bool:
    """Whether the unit is there."""
    return (UNITS / NAME).exists()


def plan(folder: Path) -> Plan:
    """The plan for this data folder on this machine. Raises NotJoined, Misuse, StorageError."""
    folder = folder.resolve()
    if not (folder / storage.DATABASE).exists():
        raise NotJoined(f"there is no agent in {folder}; join first, or name another folder with --data-dir")
    if not (folder / sealing.KEY_FILE).exists():
        raise Misuse(
            "the store's key is in the keyring, which is locked until somebody logs in; a service needs it in a "
            'file: set key = "file" before joining'
        )
    try:
        user = folder.owner()
    except (KeyError, OSError):
        raise StorageError(f"{folder} belongs to no user of this machine; mend it with: chown") from None
    if user == "root":
        raise Misuse(
            f"{folder} belongs to root, and the agent does not run as root; make a user and join as them: "
            "useradd --system --create-home --home-dir /var/lib/spot spot"
        )
    command = (sys.executable, "-P", "-m", "agent", "--data-dir", str(folder), "run")
    return Plan(folder, user, command, _program(), _group_exists())


def _program() -> tuple[Path, ...]:
    """Where this program and its interpreter are."""
    places = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent)
    rooms = Path(agent.__file__).parent.parent  # elsewhere where it is installed to be edited
    return tuple(dict.fromkeys([*(place.resolve() for place in places), rooms.resolve()]))


def _group_exists() -> bool:
    if sys.platform == "win32":
        return False
    import grp

    try:
        grp.getgrnam(GROUP)
    except KeyError:
        return False
    return True


def unit(plan: Plan) -> str:
    """The text of the unit. Raises Misuse for paths that systemd cannot be told."""
    hidden = [path for path in plan.program if _in_home(path)]
    binds = [f"BindReadOnlyPaths={_quoted(str(path))}\n" for path in _outermost(hidden)]
    writable = (
        f"BindPaths={_quoted(str(plan.folder))}"
        if _in_home(plan.folder)
        else f"ReadWritePaths={_quoted(str(plan.folder))}"
    )
    binds.append(writable + "\n")
    return _UNIT.format(
        command=" ".join(_word(word) for word in plan.command),
        user=plan.user,
        groups=f"SupplementaryGroups={GROUP}\n" if plan.grouped else "",
        binds="".join(binds),
        watchdog=WATCHDOG,
    )


def _in_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in HOMES)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise Misuse(f"systemd cannot be told the path {text!r}; use another --data-dir or place to install")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if set(text) & set(" :'\\\"") else text  # of two paths, a colon would stand between


def _word(word: str) -> str:
    """For ExecStart=, which also knows variables."""
    return _quoted(word.replace("$", "$$"))


# --- installing ---


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done: a file written or removed (text None), or a command."""

    path: Path | None = None
    text: str | None = None
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As a person reads it."""
        if self.path is None:
            return shlex.join(self.command)
        return f"remove {self.path}" if self.text is None else f"write {self.path}"

    def take(self) -> None:
        """Do it. Raises Misuse where systemctl refuses, OSError."""
        if self.path is None:
            systemctl(*self.command[1:])
        elif self.text is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_text(self.text, "utf-8")
            self.path.chmod(0o644)


def install_steps(plan: Plan, units: Path = UNITS) -> list[Step]:
    """What installing takes. The restart is for a unit that was installed before."""
    return [
        Step(units / NAME, unit(plan)),
        Step(command=("systemctl", "daemon-reload")),
        Step(command=("systemctl", "enable", NAME)),
        Step(command=("systemctl", "restart", NAME)),
    ]


def uninstall_steps(units: Path = UNITS) -> list[Step]:
    """What removing takes. The data stays."""
    return [
        Step(command=("systemctl", "disable", "--now", NAME)),
        Step(units / NAME),
        Step(command=("systemctl", "daemon-reload")),
    ]


def check_machine(arguments: list[str], *, booted: Path = BOOTED) -> None:
    """Raises Misuse unless systemd runs here and this is root; says what to type then."""
    if not booted.is_dir():
        raise Misuse("this machine is not run by systemd; `spot service install --print` prints the unit, as a model")
    if os.geteuid() != 0:
        again = shlex.join(["sudo", sys.executable, "-P", "-m", "agent", *arguments])
        raise Misuse(f"this takes root (the agent itself will run as you); run: {again}")


def systemctl(*words: str) -> str:
    """What `systemctl` prints. Raises Misuse with what it complains of."""
    try:
        done = subprocess.run(  # noqa: S603 (fixed words)
            ["systemctl", "--no-pager", *words],  # noqa: S607 (wherever the system has it)
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Misuse("there is no systemctl on this machine; run the agent another way: spot run") from None
    except subprocess.TimeoutExpired:
        raise Misuse(f"systemctl {words[0]} did not end within {SECONDS:g} s; see: journalctl -u spot") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Misuse(f"systemctl {words[0]}: {said[0].rstrip('.')}; see: journalctl -u spot")
    return done.stdout


_PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "SubState", "StatusText", "MainPID", "NRestarts", "Result")


def state() -> dict[str, str]:
    """What systemd says of the service, by property. Raises Misuse."""
    text = systemctl("show", NAME, f"--property={','.join(_PROPERTIES)}")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
