"""The ways between rooms: which package may import which, and what the protocol never touches."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

WAYS: dict[str, set[str]] = {
    "protocol": set(),
    "ble": set(),
    "agent": {"ble", "protocol"},
    "backend_stub": {"protocol"},
}
"""Each room, and the rooms that it may import."""

BACKEND_WAYS: dict[str, set[str]] = {
    "keyring": set(),
    "storage": set(),
    "network": {"keyring"},
    "following": {"keyring", "network"},
    "proxy": {"following", "keyring", "network"},
    "server": {"following", "keyring", "network", "storage"},
    "authority": {"following", "keyring", "network", "storage"},
}
"""The parts of a backend and what they stand on: each folder, and the folders that it may import.

`operations` and `commands` are about a whole backend, and may import all of them.
"""

OUTSIDE = WAYS.keys() | {"scripts", "tests"}

FORBIDDEN = {
    "aiohttp",
    "asyncio",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "secrets",
    "random",
    "shutil",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
"""Modules with which the protocol could do I/O, look at a clock, or draw randomness of its own."""

FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today", "environ", "token_bytes"}


def _modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def _imports(module: Path) -> Iterator[tuple[str, int]]:
    """The modules that this one imports, wherever in it, and the line."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _dynamic_imports(module: Path) -> Iterator[tuple[str, int]]:
    """What is imported by name: every text in the module that begins like a module of another room."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            room, dot, rest = node.value.partition(".")
            if dot and room in OUTSIDE and all(part.isidentifier() for part in rest.split(".")):
                yield node.value, node.lineno


@pytest.mark.parametrize("room", WAYS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    modules = _modules(room)
    assert modules
    barred = OUTSIDE - WAYS[room] - {room}
    found = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules
        for name, line in (*_imports(module), *_dynamic_imports(module))
        if name.partition(".")[0] in barred
    ]
    assert not found


@pytest.mark.parametrize("folder", BACKEND_WAYS)
def test_a_folder_of_the_backend_imports_only_what_it_stands_on(folder: str) -> None:
    modules = _modules(f"backend_stub/{folder}")
    assert modules
    every = {path.parent.name for path in ROOT.glob("backend_stub/*/__init__.py")}
    assert BACKEND_WAYS.keys() == every - {"operations", "commands"}
    barred = {f"backend_stub.{other}" for other in every - BACKEND_WAYS[folder] - {folder}}
    found = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules
        for name, line in _imports(module)
        if ".".join(name.split(".")[:2]) in barred
    ]
    assert not found


def test_every_room_is_known() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"scripts", "tests"} <= WAYS.keys()


def test_the_protocol_does_no_io_and_has_no_clock_and_no_randomness() -> None:
    found = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in _modules("protocol")
        for name, line in _imports(module)
        if name.partition(".")[0] in FORBIDDEN
    ]
    found += [
        f"{module.relative_to(ROOT)}:{line} uses {name}"
        for module in _modules("protocol")
        for name, line in _used(module)
        if name in FORBIDDEN_CALLS
    ]
    assert not found


def test_the_protocol_waits_for_nothing() -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = [
        f"{module.relative_to(ROOT)}:{node.lineno}"
        for module in _modules("protocol")
        for node in ast.walk(_tree(module))
        if isinstance(node, waiting)
    ]
    assert not found


def _used(module: Path) -> Iterator[tuple[str, int]]:
    """The functions called by their bare name, and the attributes looked up."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
