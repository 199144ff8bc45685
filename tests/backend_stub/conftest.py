from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backend_stub import support

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def clock() -> support.ManualClock:
    return support.ManualClock()


@pytest.fixture
async def there(tmp_path: Path, clock: support.ManualClock) -> AsyncIterator[support.World]:
    """A running backend of one's own."""
    await support.found(tmp_path / "backend", clock)
    async with support.world(tmp_path / "backend", clock) as running:
        yield running
