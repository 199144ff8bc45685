"""A systemd unit for each part, for as many processes as wanted.

A sandbox with the part's folder, its program and the network, and nothing else.

A part runs as whoever owns its folder, so that the other commands go on working for that person, and never as root.
Keys that are sealed get their passphrase as an encrypted credential, which only this machine can open.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import backend_stub
from backend_stub import settings
from backend_stub.keyring import passphrases, sealing
from backend_stub.settings import AuthoritySettings, ServerSettings
from protocol.errors import Misuse, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend_stub.settings import Settings

UNITS = Path("/etc/systemd/system")
CREDENTIALS = Path("/etc/credstore.encrypted")
HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= hides

_UNIT = """\
# Made by `spot-backend service`; changes of your own: systemctl edit {name}
[Unit]
Description=SPOT {part} (process %i)
Wants=network-online.target
After=network-online.target time-sync.target postgresql.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
User={user}
{credential}Restart=on-failure
RestartSec=5
# Asked for something impossible, or the keys stay sealed: trying again would not help.
RestartPreventExitStatus=2 34
# Longer than a part takes to answer what it has in hand.
TimeoutStopSec=60
UMask=0077

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
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
KeyringMode=private
# No keys in a file that a crash leaves behind, nor in swap.
LimitCORE=0
MemorySwapMax=0

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one part's unit says.

    program: where its files are; sealed: whether its keys want a passphrase; reads, writes: what else
    its settings name.
    """

    folder: Path
    user: str
    command: tuple[str, ...]
    program: tuple[Path, ...]
    sealed: bool
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The unit's name: a template, as several processes of a part share its port (@1, @2, ...)."""
        return f"spot-backend-{self.folder.name}@.service"

    @property
    def credential(self) -> Path:
        """Where the encrypted passphrase is to be."""
        return CREDENTIALS / f"spot-backend-{self.folder.name}"


def plans(folder: Path) -> list[Plan]:
    """A plan for each part in this folder. Raises Misuse, StorageError."""
    return [_plan((folder / part).resolve()) for part in settings.parts(folder)]


def _plan(part: Path) -> Plan:
    try:
        user = part.owner()
    except (KeyError, OSError):
        raise StorageError(f"{part} belongs to no user of this machine; mend it with: chown") from None
    if user == "root":
        raise Misuse(
            f"{part} belongs to root, and no part runs as root; make a user, and give it the folder: "
            f"useradd --system spot-backend && chown -R spot-backend {part.parent}"
        )
    kind = part.name if part.name in ("authority", "server") else "proxy"
    command = (sys.executable, "-P", "-m", "backend_stub", kind, "run", str(part))
    places = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent)
    rooms = Path(backend_stub.__file__).parent.parent  # elsewhere where it is installed to be edited
    program = tuple(dict.fromkeys([*(place.resolve() for place in places), rooms.resolve()]))
    reads, writes = _named(part, settings.read_part(part))
    return Plan(part, user, command, program, sealing.has_lock(part), reads, writes)


def _named(part: Path, told: Settings) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """What a part needs outside its folder: a certificate and a database's socket; where files for others go."""
    reads = [part / file for file in (told.certificate, told.key_file) if file]
    writes = [part / told.static] if isinstance(told, AuthoritySettings) else []
    if isinstance(told, AuthoritySettings | ServerSettings):
        hosts = parse_qs(urlsplit(told.database).query).get("host", [])
        reads += [Path(host) for host in hosts if host.startswith("/")]
    return _outside(part, reads), _outside(part, writes)


def _outside(part: Path, paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(path for path in paths if not path.is_relative_to(part))


def unit(plan: Plan) -> str:
    """The text of the unit. Raises Misuse for paths that systemd cannot be told."""
    backend = plan.folder.parent
    # The other parts' keys are beside this one's; where homes are hidden, so are they.
    binds = [] if _in(backend, HOMES) else [f"TemporaryFileSystem={_place(backend)}:ro\n"]
    hidden = [path for path in (*plan.program, *plan.reads) if _in(path, (*HOMES, backend))]
    binds += [f"BindReadOnlyPaths={_place(path)}\n" for path in _outermost(hidden)]
    binds += [f"BindPaths={_place(path)}\n" for path in (plan.folder, *plan.writes)]
    credential = f"LoadCredentialEncrypted={passphrases.CREDENTIAL}:{plan.credential}\n" if plan.sealed else ""
    return _UNIT.format(
        name=plan.name.replace("@", "@1"),
        part=plan.folder.name,
        command=" ".join(_quoted(word.replace("$", "$$")) for word in plan.command),
        user=plan.user,
        credential=credential,
        binds="".join(binds),
    )


def steps(plans: Iterable[Plan]) -> list[str]:
    """What root types to have them run."""
    made = list(plans)
    missing = {path: plan.user for plan in made for path in plan.writes if not path.exists()}
    folders = [f"install -d -o {user} {shlex.quote(str(path))}" for path, user in missing.items()]
    found = [
        f"systemd-ask-password -n | systemd-creds encrypt --name={passphrases.CREDENTIAL} - {plan.credential}"
        for plan in made
        if plan.sealed
    ]
    if found:
        found.insert(0, f"mkdir -p -m 700 {CREDENTIALS}")
    return [
        *folders,
        *found,
        "systemctl daemon-reload",
        f"systemctl enable --now {' '.join(plan.name.replace('@', '@1') for plan in made)}",
    ]


def _in(path: Path, folders: Iterable[str | Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _place(path: Path) -> str:
    if ":" in str(path):
        raise Misuse(f"systemd cannot be told {str(path)!r}; use another folder")
    return _quoted(str(path))


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise Misuse(f"systemd cannot be told {text!r}; use another folder")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if set(text) & set(" :;'\\\"") else text
