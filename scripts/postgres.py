"""A PostgreSQL of one's own for a while: Debian's programs, a folder that vanishes, no system service.

    with running() as cluster:
        url = cluster.fresh()    # an empty database
        cluster.restart()        # stopped and started again, as an upgrade does
        cluster.kill()           # as a power cut does to the process; cluster.start() recovers

All calls block: use asyncio.to_thread in a coroutine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEBIAN = Path("/usr/lib/postgresql")  # each version's programs are in a folder that no PATH has
OWNER = "postgres"  # who runs it where we are root, which PostgreSQL refuses to be
USER = "spot"  # who owns the databases; no superuser
WAIT_SECONDS = 30.0

FOR_TESTS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Survives the death of its processes, not that of the machine; for measuring give none of it."""


class PostgresError(Exception):
    """PostgreSQL is not there, or does not start. The text says what to do, or what it said."""


class Cluster:
    """One cluster of databases. `password`: that of USER over TCP; over the socket none is asked for."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = _free_port()
        self.password = secrets.token_hex(16)
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
        } | dict(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    @property
    def pid(self) -> int:
        """The process that all its others come from; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def create(self) -> None:
        """Make the cluster's files, and start it. Raises PostgresError."""
        auth = ("--auth-local=trust", "--auth-host=scram-sha-256")
        _run("initdb", f"--pgdata={self._data}", f"--username={OWNER}", "--encoding=UTF8", "--no-sync", *auth)
        self.start()
        self._sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{self.password}'")

    def start(self) -> None:
        """Start it, and wait until it takes connections. Raises PostgresError."""
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            self._launch()
            if self._answers(until):
                return
            time.sleep(0.1)  # after kill(), the last of its children may hold on to its memory for a moment
        raise PostgresError(f"PostgreSQL does not start; it said: {self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Break off what it does, and stop it in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it: it has no time to say goodbye or to write anything."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, then start."""
        self.stop()
        self.start()

    def fresh(self) -> str:
        """The URL of a new and empty database, by socket."""
        self._databases += 1
        name = f"spot{self._databases}"
        _run("createdb", *self._where, f"--owner={USER}", name)
        return f"postgresql://{USER}@/{name}?host={self.folder}&port={self.port}"

    def over_tcp(self, url: str) -> str:
        """The same database by TCP, with the password."""
        name = url.partition("@/")[2].partition("?")[0]
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{name}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _where(self) -> tuple[str, ...]:
        return f"--host={self.folder}", f"--port={self.port}", f"--username={OWNER}"

    def _sql(self, statement: str) -> None:
        _run("psql", *self._where, "--dbname=postgres", "--quiet", "--no-psqlrc", said=statement)

    def _launch(self) -> None:
        if self._process is not None and self._process.poll() is None:
            raise PostgresError("this PostgreSQL runs already")
        told = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", str(self._data), *told],
                **_as_owner(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for us, who then stop it
            )

    def _answers(self, until: float) -> bool:
        ready = [program("pg_isready"), "--quiet", *self._where]
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            if subprocess.run(ready, check=False, **_as_owner()).returncode == 0:
                return True
            time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_SECONDS)
            self._process = None


@contextmanager
def running(settings: Mapping[str, str] = FOR_TESTS, within: Path | None = None) -> Iterator[Cluster]:
    """A fresh cluster, started; stopped and deleted at the end. within: the folder that its own is made in.

    Raises PostgresError.
    """
    program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="spot-postgres-", dir=within))  # short: a socket's path has at most 107 bytes
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER, OWNER)
        cluster = Cluster(folder, settings)
        try:
            cluster.create()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, those of its newest version first. Raises PostgresError."""
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", "")]))
    if found is None:
        raise PostgresError(f"PostgreSQL's {name} is missing: apt-get install postgresql")
    return found


def _run(name: str, *arguments: str, said: str = "") -> None:
    done = subprocess.run(
        [program(name), *arguments], check=False, input=said.encode(), capture_output=True, cwd="/", **_as_owner()
    )
    if done.returncode:
        raise PostgresError(f"{name} failed: {done.stderr.decode(errors='replace').strip()}")


def _as_owner() -> dict[str, Any]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return {"env": mine} | ({"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port
