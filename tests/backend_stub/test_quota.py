"""The quota: a ticket of a user's day serves one contact, on both databases, through whatever server and proxy."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from backend_stub.server import quota
from backend_stub.server.matching import match
from protocol import contact, messages
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import NotMine, QuotaRefused
from tests.backend_stub.databases import entry, kept, kept_tickets
from tests.backend_stub.support import CURVE, Encounter
from tests.support import world_of

if TYPE_CHECKING:
    from backend_stub.server.matching import Entry
    from backend_stub.storage.database import Database
    from tests.backend_stub.support import ManualClock, User, World

DAY = 20_000
TIMES = 20


def of_one_ticket() -> tuple[Entry, Entry]:
    """Two contacts of one user."""
    one, other = (entry(secrets.token_bytes(32), secrets.token_bytes(48), DAY) for _ in range(2))
    return one, replace(other, use=replace(one.use, ccm=other.use.ccm))


def refused(results: list[object]) -> list[bool]:
    return [isinstance(one, QuotaRefused) for one in results]


async def test_of_two_contacts_at_once_a_ticket_serves_one(servers: list[Database]) -> None:
    for _ in range(TIMES):
        pair = of_one_ticket()
        at_once = [match(server, [one], DAY, DAY) for server, one in zip(servers, pair, strict=True)]
        found = refused([result for (result,) in await asyncio.gather(*at_once)])
        assert sorted(found) == [False, True]
        for server in servers:
            assert refused([*await match(server, pair, DAY, DAY)]) == found, "and serves it for ever"
    assert len(await kept(servers[0])) == len(await kept_tickets(servers[0])) == TIMES


async def test_a_ticket_twice_in_one_pool(servers: list[Database]) -> None:
    one, other = of_one_ticket()
    assert refused([*await match(servers[0], [one, other, one], DAY, DAY)]) in (
        [False, True, False],
        [True, False, True],
    )


async def test_full_pools_of_the_same_tickets_in_opposite_orders_get_through(
    servers: list[Database],
) -> None:
    pairs = [of_one_ticket() for _ in range(256)]
    pools = [[one for one, _ in pairs], [other for _, other in reversed(pairs)]]
    await asyncio.gather(*(match(server, pool, DAY, DAY) for server, pool in zip(servers, pools, strict=True)))
    assert len(await kept(servers[0])) == len(pairs)


async def test_tickets_are_forgotten_when_no_server_takes_their_day(servers: list[Database]) -> None:
    limits = world_of("arkworks").parameters.limits
    asked = [replace(one, use=replace(one.use, day=DAY + days)) for days, one in enumerate(of_one_ticket())]
    await match(servers[0], asked, DAY, DAY)
    ends = (DAY + 2) * SECONDS_A_DAY + limits.clock_tolerance  # of DAY, by the clock of a server that is behind
    for now, left in ((ends - 1, 2), (ends, 1), (ends + SECONDS_A_DAY - 1, 1), (ends + SECONDS_A_DAY, 0)):
        await quota.forget(servers[1], now, limits)
        assert len(await kept_tickets(servers[0])) == left


# --- through all parts ---


async def submit(there: World, user: User, met: Encounter, ticket: contact.Ticket) -> bool:
    """Submit it on this ticket, through a proxy. Whether it is signed."""
    key, day = (await there.keys()).issuer(user.issuer), there.clock.today
    one = contact.submit(CURVE, secrets.token_bytes, user.credential, key, user.issuer, met.ccm, day, ticket)
    answer = messages.decode(messages.Answer, messages.unpad(await there.send_submission(one)))
    return answer.record is not None


async def test_a_ticket_for_another_contact_is_refused_by_name_and_the_same_again_is_a_repeat(
    there: World, clock: ManualClock
) -> None:
    left, right = await there.pair()
    met, ticket = Encounter(), contact.Ticket(clock.today, 5)
    assert not await submit(there, left, met, ticket)
    assert await submit(there, right, met, ticket), "another user's ticket of that number is another one"
    assert await submit(there, left, met, ticket), "the same contact on the same ticket is a repeat"
    with pytest.raises(QuotaRefused, match="on another one"):
        await submit(there, left, Encounter(), ticket)
    assert await submit(there, left, met, replace(ticket, number=6)), "and on another ticket as well"


async def test_a_ticket_beyond_the_quota_is_refused_by_proxy_and_server(there: World, clock: ManualClock) -> None:
    user, most = await there.user(), (await there.trusted()).parameters.limits.submissions
    assert not await submit(there, user, Encounter(), contact.Ticket(clock.today, most - 1))
    with pytest.raises(NotMine, match="beyond those that a user may make a day"):
        await submit(there, user, Encounter(), contact.Ticket(clock.today, most))
    beyond = msgspec.structs.replace(await there.submission(user, Encounter()), ticket=most)
    assert "beyond" in (await there.refusal(beyond) or "")


@pytest.mark.parametrize("days_off", [-2, -1, 1, 2])
async def test_the_sender_s_day_may_be_one_off(there: World, clock: ManualClock, days_off: int) -> None:
    ticket = contact.Ticket(clock.today + days_off, 0)
    if abs(days_off) == 1:
        assert not await submit(there, await there.user(), Encounter(), ticket)
    else:
        with pytest.raises(QuotaRefused, match="check the device's clock"):
            await submit(there, await there.user(), Encounter(), ticket)
