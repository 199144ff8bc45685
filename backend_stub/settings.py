"""What a part is told by its own folder: settings.toml, typed and checked.

A backend's folder holds one folder a part (authority, server, proxy-NAME); each has all that its part needs, and can
be moved to a machine of its own.
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Struct

from backend_stub.clock import ScaledClock
from protocol.curve import open_curve
from protocol.errors import Misuse
from protocol.messages import Name, Url
from protocol.timescale import read_timescale

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backend_stub.clock import Clock
    from protocol.curve import Curve

log = logging.getLogger(__name__)

FILE = "settings.toml"
DEFAULT_PORT = 8700
PARAMETERS_DAYS = 30
ISSUER_DAYS = 90

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=10**8)]
Days = Annotated[int, Meta(ge=1, le=3660)]
Urls = Annotated[tuple[Url, ...], Meta(min_length=1, max_length=64)]
Many = Annotated[int, Meta(ge=1, le=10**6)]
Often = Annotated[float, Meta(gt=0, le=10**6)]
Mib = Annotated[int, Meta(ge=8, le=10**6)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
DatabaseUrl = Annotated[str, Meta(pattern="^(postgres(ql)?://.*)?$")]
"""Of a PostgreSQL, as libpq takes it; empty: SQLite in the part's folder."""

S = TypeVar("S", bound="Settings")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every part is told.

    host, port: where it listens; clock: SPEED@ANCHOR, a sped-up clock for demonstrations; curve: the maker of curve
    points (arkworks or py_ecc), empty for the best that is installed; share_port: whether other processes of this part
    may listen at the same port (Linux); tls: whether it speaks TLS; certificate, key_file: what it shows in place of
    its own certificate (PEM, the whole chain); connections, in_hand: how many connections, and requests, at once;
    watch_port: where this machine is told how it is (/health, /ready, /metrics), the first free port from there on; 0:
    nowhere.
    """

    host: str = "127.0.0.1"
    port: Port
    clock: str = ""
    curve: str = ""
    share_port: bool = False
    tls: bool = False
    certificate: str = ""
    key_file: str = ""
    connections: Many = 2000
    in_hand: Many = 1000
    watch_port: Annotated[int, Meta(ge=0, le=65535)] = 0

    @property
    def url(self) -> str:
        """Where it is reached from its own machine."""
        return local_url(self.host, self.port, tls=self.tls)

    def open_clock(self) -> Clock:
        """The clock that these settings ask for. Raises Misuse."""
        return ScaledClock(read_timescale(self.clock or "1@0"))

    def open_curve(self) -> Curve:
        """The curve maker that these settings ask for. Raises Misuse."""
        curve = open_curve(self.curve or None)
        if curve.name == "py_ecc":
            log.warning("py_ecc is right, but a hundred times slower than arkworks: pip install 'spot-agent[fast]'")
        return curve


class AuthoritySettings(Settings, frozen=True, kw_only=True):
    """The authority's.

    public_url: where agents reach it; publish_every: s between publications, if there is something to publish;
    parameters_days: how long parameters are valid; issuer_days: the period of a user issuer key; issuer_overlap: for
    so many of its last days the next key is in use already; invitation_days: how long an invitation is valid;
    lapse_days: how long after its last credential a member may still renew; workers: how many processes check declared
    lists; none: threads do it, and long lists slow the other answers down; reports_mib: MiB of reports that are checked
    at once, which take five times as much memory; declaration_wait: real seconds until a report is
    answered, with 0.1 for each 16 KiB of it; who gets no outcome by then sends it again later; static: where both
    chains are written as files, for any web server to serve, seen from the part's folder;
    database: a PostgreSQL instead of SQLite in its folder.
    """

    name: str
    public_url: Url
    publish_every: Seconds = 3600.0
    parameters_days: Days = PARAMETERS_DAYS
    issuer_days: Days = ISSUER_DAYS
    issuer_overlap: Days = 14
    invitation_days: Days = 30
    joins_a_second: Often = 50.0
    declarations_a_second: Often = 20.0
    reports_mib: Mib = 64
    declaration_wait: Annotated[float, Meta(ge=0, le=60)] = 2.0
    lapse_days: Days = 365
    workers: Annotated[int, Meta(ge=0, le=64)] = 2
    static: str = "static"
    database: DatabaseUrl = ""


class FollowerSettings(Settings, frozen=True, kw_only=True):
    """Of the parts that follow the authority.

    authority: where it is reached, several URLs if it has several processes on several machines; genesis: the hash of
    its first parameters; refresh: s between two looks.
    """

    authority: Urls
    genesis: Hash
    refresh: Seconds = 300.0


class ServerSettings(FollowerSettings, frozen=True, kw_only=True):
    """The server's. database: a PostgreSQL instead of SQLite in its folder."""

    database: DatabaseUrl = ""


class ProxySettings(FollowerSettings, frozen=True, kw_only=True):
    """A proxy's.

    server: where it is reached, or several such places; pool_wait: real seconds that a submission waits for others to
    be mixed with; pool_size: how many are enough; reports_mib: MiB of reports that wait for their answers at once.
    """

    name: Name
    group: Name
    server: Urls
    pool_wait: Annotated[float, Meta(ge=0, le=60)] = 1.0
    pool_size: Annotated[int, Meta(ge=1, le=1024)] = 64
    submissions_a_second: Often = 1000.0
    declarations_a_second: Often = 20.0
    reports_mib: Mib = 256


def local_url(host: str, port: int, *, tls: bool) -> str:
    """Where something that listens there is reached."""
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def read(kind: type[S], folder: Path, changes: Mapping[str, Any] | None = None) -> S:
    """The settings in a part's folder, with these changes. Raises Misuse where they are missing or make no sense."""
    file = folder / FILE
    try:
        return msgspec.convert(
            tomllib.loads(file.read_text(encoding="utf-8")) | dict(changes or {}), kind, strict=False
        )
    except OSError as error:
        raise Misuse(
            f"{file} cannot be read ({error.strerror}); is this a part's folder? Make one: spot-backend init DIR"
        ) from None
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{file} makes no sense: {error}; mend it") from None


def read_part(folder: Path) -> Settings:
    """The settings of the part that a folder is named for. Raises Misuse."""
    kinds: dict[str, type[Settings]] = {"authority": AuthoritySettings, "server": ServerSettings}
    return read(kinds.get(folder.name, ProxySettings), folder)


def database_url(folder: Path) -> str:
    """The PostgreSQL of the part in this folder; empty where it has SQLite or keeps nothing. Raises Misuse."""
    told = read_part(folder)
    return told.database if isinstance(told, (AuthoritySettings, ServerSettings)) else ""


def write(folder: Path, settings: Settings) -> None:
    """Write a part's settings; JSON's numbers and strings are TOML's. Raises Misuse where they make no sense."""
    values = msgspec.to_builtins(settings)
    try:
        msgspec.convert(values, type(settings))
    except msgspec.ValidationError as error:
        raise Misuse(f"these settings make no sense: {error}") from None
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
    with open(folder / FILE, "w", encoding="utf-8", opener=_private) as file:
        file.writelines(lines)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def password_in(url: str) -> bool:
    """Whether a database's URL holds a password."""
    try:
        parsed = urlsplit(url)
        return bool(parsed.password) or "password" in parse_qs(parsed.query)
    except ValueError:
        return True  # to be on the safe side


def parts(folder: Path) -> list[str]:
    """The names of the parts in a backend's folder, authority first. Raises Misuse where there is none."""
    names = sorted(file.parent.name for file in folder.glob(f"*/{FILE}"))
    if not names:
        raise Misuse(f"there is no backend in {folder}; make one: spot-backend init {folder}")
    return names
