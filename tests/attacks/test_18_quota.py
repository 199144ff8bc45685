"""Attack 18, at the server: a registered user with own code submits made-up contacts without end.

So many of a user and day get into the database, each on a ticket of its own, and no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from typing import TYPE_CHECKING

import pytest

from backend_stub.operations.policy import changed
from backend_stub.server import quota
from protocol import contact, parameters
from protocol.errors import SpotError
from tests.backend_stub import support
from tests.backend_stub.support import CURVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from backend_stub.server.quota import Use
    from tests.backend_stub.support import ManualClock, World

QUOTA = 5
TRIES = 3


async def flood_the_server(there: World, days: int = 2) -> int:
    """A user with own code submits random CCMs: several on each ticket, some beyond the quota. How many get in."""
    user, taken = await there.user(), 0
    key = (await there.keys()).issuer(user.issuer)
    for _ in range(days):
        today = there.clock.today
        for number in range((QUOTA + 2) * TRIES):
            ticket = contact.Ticket(today, number // TRIES)
            credential, ccm = user.credential, secrets.token_bytes(32)
            one = contact.submit(CURVE, secrets.token_bytes, credential, key, user.issuer, ccm, today, ticket)
            with contextlib.suppress(SpotError):
                await there.send_submission(one, there.proxies[number % 2])
                taken += 1
        there.clock.pass_by(days=1)
    return taken


@pytest.fixture
async def narrow(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    """A backend that takes few submissions of a user and day."""
    policy = changed(support.PLAN.policy, {"limits.submissions": QUOTA})
    await support.found(tmp_path / "backend", clock, dataclasses.replace(support.PLAN, policy=policy))
    async with support.world(tmp_path / "backend", clock) as running:
        yield running


async def test_a_user_gets_no_more_into_the_server_than_the_quota(narrow: World) -> None:
    assert await flood_the_server(narrow) == 2 * QUOTA


async def test_without_quotas_all_of_it_would_get_in(narrow: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def spend(_connection: object, uses: Sequence[Use]) -> set[Use]:
        return set(uses)

    monkeypatch.setattr(quota, "spend", spend)
    monkeypatch.setattr(parameters, "check_ticket", lambda *_: None)
    assert await flood_the_server(narrow) == 2 * (QUOTA + 2) * TRIES
