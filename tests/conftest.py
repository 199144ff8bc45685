"""What holds for the whole suite: what any part logs is kept, and searched for secrets; a PostgreSQL for all."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend_stub.operations import founding
from scripts import postgres as own_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.postgres import Cluster

ROOMS = ("agent", "backend_stub", "ble", "protocol")
LOG_FOLDER = Path(__file__).parent.parent / ".cache" / "test-logs"

# What a secret looks like in a log, whoever put it there. 8 bytes of hexadecimal are taken for one.
SECRETS = {
    "hexadecimal": re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{16,}\b"),
    "base64": re.compile(r"(?<![\w/+.-])(?=[A-Za-z0-9+/]*\d)(?=[A-Za-z0-9+/]*[A-Z])[A-Za-z0-9+/]{40,}={0,2}"),
    "bytes": re.compile(r"(?:\\x[0-9a-f]{2}.?){4,}"),
    "report code": re.compile(r"\b[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}\b|\b(?=[A-Z]*[2-7])[A-Z2-7]{16}\b"),
    "Bluetooth address": re.compile(r"\b[0-9A-Fa-f]{2}(?:[:_-][0-9A-Fa-f]{2}){5}\b"),
    "peer address": re.compile(r"\(?'?\b\d{1,3}(?:\.\d{1,3}){3}'?, \d+\)"),
    "long number": re.compile(r"\b\d{25,}\b"),
}


def found_secrets(text: str) -> list[str]:
    """What looks like a secret in a text, with its kind."""
    return [f"{kind}: {match.group()}" for kind, look in SECRETS.items() for match in look.finditer(text)]


LONGEST = ("two_machines", "ble_vm_recovery", "faults", "without_arkworks", "demo")
"""The modules that take minutes, which start first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first, so that none of them is left over for the end."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> None:
    """Ports for backends that no other worker's take between being found free and being listened at."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    founding.FREE_PORTS = founding.FREE_PORTS[number::workers]


@pytest.fixture(scope="session", autouse=True)
def kept_log() -> Iterator[None]:
    """Keep what our rooms log at any level, and what libraries log from a warning on."""
    LOG_FOLDER.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(LOG_FOLDER / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}.log")
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.DEBUG)
    yield
    logging.getLogger().removeHandler(handler)
    handler.close()


@pytest.fixture
def keep_output() -> Iterator[list[str]]:
    """Where a test puts what its processes printed, so that it is searched as well."""
    outputs: list[str] = []
    yield outputs
    with (LOG_FOLDER / f"output-{os.getpid()}.log").open("a", encoding="utf-8") as file:
        file.writelines(f"{output}\n" for output in outputs)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL, one for all tests of this process that ask for it; `fresh()` is a database of one's own."""
    with own_postgres.running() as cluster:
        yield cluster


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin with no logs."""
    if not hasattr(session.config, "workerinput"):
        for path in LOG_FOLDER.glob("*.log"):
            path.unlink()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search everything that the suite logged; a find fails the run."""
    if hasattr(session.config, "workerinput"):
        return
    finds = {
        f"{path.name}: {find}"
        for path in LOG_FOLDER.glob("*.log")
        for find in found_secrets(path.read_text("utf-8", errors="replace"))
    }
    if finds:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[FINDS] = sorted(finds)


FINDS = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was found."""
    finds = terminalreporter.config.stash.get(FINDS, [])
    if finds:
        terminalreporter.section("secrets in the logs of this run", red=True)
        for find in finds[:20]:
            terminalreporter.line(find)
