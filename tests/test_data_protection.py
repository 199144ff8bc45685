"""docs/data-protection.md and the program: what is stored, written, logged and for how long is what the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import account, declaring, epochs, renewal, service
from agent.days import DAYS
from agent.following import SYNC
from agent.submitting import PACE, SLOT
from backend_stub.authority import chains, progress
from backend_stub.authority import service as authority
from backend_stub.network import rates
from backend_stub.operations.founding import Plan, found
from backend_stub.operations.policy import Policy
from backend_stub.settings import AuthoritySettings
from backend_stub.storage import tables
from backend_stub.storage.schema import VERSION_TABLE
from protocol.encounter import SECONDS_A_DAY
from tests.agent import joined
from tests.backend_stub import support
from tests.backend_stub.conftest import clock  # noqa: F401 (a fixture)
from tests.backend_stub.test_forgetting import add, count
from tests.end_to_end.people import world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backend_stub.support import ManualClock

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "data-protection.md"
TEXT = PAGE.read_text("utf-8")
LINK = re.compile(r"\[([^\]]*)\]\((\.\./tests/[^)]+)\)")
NAME = re.compile(r"`([^`]+)`")


def rows() -> list[list[str]]:
    """The cells of each row of each table, without heads."""
    lines = [*TEXT.splitlines(), ""]
    is_head = [after.startswith("| ---") for after in lines[1:]]
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line, head in zip(lines, is_head, strict=False)
        if line.startswith("| ") and not head and not line.startswith("| ---")
    ]


def named(*heads: str) -> set[str]:
    """What stands in backticks in the first column of the tables with these heads."""
    found: set[str] = set()
    for head in heads:
        _, there, rest = TEXT.partition(f"\n| {head} |")
        assert there, head
        for line in rest.splitlines()[2:]:
            if not line.startswith("|"):
                break
            found |= set(NAME.findall(line.split(" | ")[0]))
    return found


# --- each line has a test ---


def test_every_line_names_a_test_that_there_is() -> None:
    assert len(rows()) > 70
    for cells in rows():
        links = LINK.findall(cells[-1])
        assert links, cells
        for name, file in links:
            module = PAGE.parent / file
            assert re.search(rf"^(async )?def {name}\(", module.read_text("utf-8"), re.MULTILINE), (name, file)


def test_what_else_the_page_links_to_is_there() -> None:
    for name, file in LINK.findall(TEXT):
        module = PAGE.parent / file
        assert module.stem == name or f"def {name}(" in module.read_text("utf-8")


# --- tables and columns ---


def test_every_column_is_on_the_page(tmp_path: Path) -> None:
    store = joined.make_store(tmp_path)
    made = {row[0] for row in store._rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    stored = {table: {row[1] for row in store._rows(f"PRAGMA table_info({table})")} for table in made}
    store.close()
    for part in (tables.AUTHORITY, tables.SERVER):
        for name, table in part.tables.tables.items():
            stored[name] = stored.get(name, set()) | set(table.columns.keys())
    stored[VERSION_TABLE] = {"version_num"}
    said: dict[str, set[str]] = {}
    for cells in rows():
        (name, *others), columns = NAME.findall(cells[0]) or [""], NAME.findall(cells[1])
        if name in stored and not others and columns:
            said[name] = said.get(name, set()) | set(columns)
    assert said == stored


# --- single values and files, of the running parts ---


def kind(path: Path) -> str:
    """What the page calls a file."""
    parts = [part for part in path.parts if part in ("keys", "static")]
    return parts[0] if parts else path.name


async def test_every_single_value_and_every_file_is_on_the_page(tmp_path: Path) -> None:
    async with world(tmp_path, "ab") as there:
        a, b = there.people.values()
        there.meet(a, b)
        for person in (a, b, a, b):
            await person.sync()
            there.clock.jump(3700)
        await a.declare(await there.code())
        await there.publish()
        await b.sync()
        values = {row[0] for person in (a, b) for row in person.store._rows("SELECT name FROM state")}
        device = {kind(path) for name in "ab" for path in (tmp_path / name).iterdir()}
        backend = {kind(path.relative_to(tmp_path)) for path in (tmp_path / "backend").rglob("*") if path.is_file()}
    assert values >= {account.MEMBERSHIP, account.PARAMETERS, SYNC}
    rare = {service.SERVICE, service.STOP, service.PAUSED, account.MOVED, renewal.PLAN, SLOT, PACE, DAYS}
    rare |= {declaring.SLOT, declaring.TRIED}
    assert values | rare == named("single value")
    assert {"store.db", "store.db-wal", "store.key"} <= device
    assert device | {service.LOCK} <= named("file of the device")
    await found(tmp_path / "with TLS", Plan(port=0))
    backend |= {kind(path.relative_to(tmp_path)) for path in (tmp_path / "with TLS").rglob("*") if path.is_file()}
    assert {"authority.db", "server.db", "keys", "certificate.pem", "followed", "static"} <= backend
    assert backend <= named("file of the server", "file of the authority")


# --- how long ---


def test_every_figure_is_the_default() -> None:
    limits, told = Policy().limits, {one.name: one.default for one in msgspec.structs.fields(AuthoritySettings)}
    said = {}
    for cells in rows():
        if figure := re.fullmatch(r"`(\w+)` \| ([\d,]+) (days|seconds)", " | ".join(cells[:2])):
            said[figure[1]] = int(figure[2]) * (SECONDS_A_DAY if figure[3] == "days" else 1)
    days = {"retention_days": limits.retention_days, "MARGIN_DAYS": chains.MARGIN_DAYS}
    days |= {name: told[name] for name in ("parameters_days", "invitation_days", "issuer_days", "lapse_days")}
    seconds = {"publish_every": told["publish_every"], "CODES_KEPT": authority.CODES_KEPT, "GRACE": epochs.GRACE}
    seconds |= {"STALE": progress.STALE, "FORGET_SECONDS": rates.FORGET_SECONDS}
    assert said == seconds | {name: number * SECONDS_A_DAY for name, number in days.items()}


async def test_a_check_that_was_cut_off_is_forgotten(tmp_path: Path, clock: ManualClock) -> None:  # noqa: F811
    await support.found(tmp_path / "backend", clock)
    async with authority.opened(tmp_path / "backend" / "authority", clock) as office:
        began = int(clock.now())
        await add(office, tables.checks, {"number": 1, "contacts": 9, "checked": 3, "began_at": began})
        await office.clean()
        assert await count(office, tables.checks) == 1
        clock.pass_by(seconds=progress.STALE + 1)
        await office.clean()
        assert await count(office, tables.checks) == 0


async def test_an_invited_proxy_that_never_came_is_forgotten(tmp_path: Path, clock: ManualClock) -> None:  # noqa: F811
    await support.found(tmp_path / "backend", clock)
    async with authority.opened(tmp_path / "backend" / "authority", clock) as office:
        row = {"name": "far", "group": "group-1", "url": "https://far", "nonce": bytes(32)}
        await add(office, tables.invited, row | {"expires_at": int(clock.now())})
        clock.pass_by(seconds=authority.CODES_KEPT)
        await chains.renew(office)
        await office.clean()
        assert await count(office, tables.invited) == 1
        clock.pass_by(seconds=1)
        await office.clean()
        assert await count(office, tables.invited) == 0


# --- logs, and who is talked to ---

LOGGED = {
    "what is wrong": {"error", "error.text", "problem", "trouble", "error.strerror", "verdict(part, told)"},
    "counts, durations": {
        *("self.connections", "self._answered", "self._taken", "trusted.head.number", "key.number", "seconds"),
        *("self._checked", "self._contacts", "after.head.number", "number", "version", "len(outcomes)"),
        *("scripts.get_current_head()", "len(submissions)", "len(wrong)"),
    },
    "names, hosts and ports": {"name", "HOST", "port", "told.host", "told.port", "part.name", "self._folder"},
    "the reference of a receipt": {"receipt.reference"},
    "how the device listens": {"duty.name", "limits.epoch"},
}
"""What the calls of the log are given, by the beginning of the page's line about it."""


def logged() -> Iterator[tuple[str, str]]:
    """Each thing that a call of a log is given besides its words, and where."""
    for room in ("agent", "backend_stub", "ble", "protocol"):
        for module in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(module.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id.strip("_").lower() in ("log", "logger")
                ):
                    assert isinstance(node.args[0], ast.Constant), f"{module}:{node.lineno}: the words are not fixed"
                    yield from ((ast.unparse(one), f"{module}:{node.lineno}") for one in node.args[1:])


def test_what_logs_say_is_on_the_page() -> None:
    known = {one for ones in LOGGED.values() for one in ones}
    found = list(logged())
    assert len(found) > 30
    assert [(one, where) for one, where in found if one not in known] == [], "think of whom it tells, then name it"
    for begins in LOGGED:
        assert f"\n| {begins}" in TEXT


def test_the_agent_talks_to_whom_its_parameters_name_only() -> None:
    """One module speaks over a network, to where it is told; others to the machine's service manager, and to whom the
    user of `spot doctor` names.
    """
    speaking = set()
    for module in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & {"aiohttp", "http", "requests", "socket", "urllib"}:
                speaking.add(module.name)
    assert speaking == {"transport.py", "notify.py", "probing.py"}
