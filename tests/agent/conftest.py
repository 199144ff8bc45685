"""No setting, keyring or data of the person who runs the tests comes into them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import keyring
import pytest
from keyring.backends import fail

from tests.agent import joined
from tests.agent.servers import serving
from tests.ble.conftest import bluez as bluez
from tests.ble.conftest import system_bus as system_bus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.store import Store
    from tests.agent.servers import Server


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("SPOT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """The store of a device that has joined."""
    made = joined.make_store(folder)
    joined.join(made)
    yield made
    made.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on loopback that answers as it is told."""
    async with serving() as made:
        yield made
