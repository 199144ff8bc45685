"""When the credential is renewed: at a moment drawn once, whatever the clock said meanwhile."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent import account, renewal
from protocol import credential
from protocol.credential import Holder
from protocol.encounter import SECONDS_A_DAY, day_of
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.joined import world

if TYPE_CHECKING:
    from agent.account import Account
    from agent.store import Store

TODAY = day_of(NOON)
LAST = TODAY + 30


@pytest.fixture
def mine(store: Store) -> Account:
    """With a credential until LAST, and a next issuer from half of the time on."""
    (old, *_) = account.read_trusted(store).parameters.issuers
    _, key = credential.new_issuer(world().curve, world().random, Holder.USER)
    ending = replace(old, from_day=TODAY - 60, until_day=LAST)
    later = replace(old, number=old.number + 1, from_day=TODAY + 15, until_day=TODAY + 120, key=key)
    joined.move_on(store, issuers=(ending, later))
    return account.open_account(world().curve, store)


@pytest.mark.parametrize("ahead", [20, 40, 100])
def test_a_renewal_drawn_ahead_of_time_is_drawn_anew(store: Store, mine: Account, ahead: int) -> None:
    chance = random.Random(1)
    renewal.due(chance, store, mine, NOON + ahead * SECONDS_A_DAY)
    days = [day for day in range(15, 31) if renewal.due(chance, store, mine, NOON + day * SECONDS_A_DAY)]
    assert days, "it ran out without being renewed"
    assert days[-1] == 30


def test_the_moment_is_drawn_once(store: Store, mine: Account) -> None:
    chance = random.Random(1)
    at = NOON + 16 * SECONDS_A_DAY
    renewal.due(chance, store, mine, at)
    plan = store.get(renewal.PLAN, renewal.Plan)
    for later in range(0, 86400, 3600):
        renewal.due(chance, store, mine, at + later)
    assert store.get(renewal.PLAN, renewal.Plan) == plan


def test_who_comes_after_the_end_renews_at_once(store: Store, mine: Account) -> None:
    assert renewal.due(random.Random(1), store, mine, NOON + 40 * SECONDS_A_DAY)
