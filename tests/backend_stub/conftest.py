from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backend_stub import support
from tests.backend_stub.databases import KINDS, several

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backend_stub.storage.database import Database


@pytest.fixture
async def clock() -> support.ManualClock:
    return support.ManualClock()


@pytest.fixture
async def there(tmp_path: Path, clock: support.ManualClock) -> AsyncIterator[support.World]:
    """A running backend of one's own."""
    await support.found(tmp_path / "backend", clock)
    async with support.world(tmp_path / "backend", clock) as running:
        yield running


@pytest.fixture(params=KINDS)
async def servers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """The server's database, of either kind, as two processes see it."""
    url = request.getfixturevalue("postgres").fresh() if request.param == "postgresql" else ""
    async with several(tmp_path / "server.db", url) as opened:
        yield opened
