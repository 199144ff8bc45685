"""From an invitation to a publication, through all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import encounter
from tests.support import found_in

if TYPE_CHECKING:
    from tests.backend_stub.support import World


async def test_a_declared_contact_is_published_and_found_by_its_peer_only(there: World) -> None:
    ill, peer = await there.user(), await there.user()
    met, record = await there.meet(ill, peer)
    receipt = await there.declare(ill, await there.code(), [(met, record)], role=0)
    assert receipt.accepted
    assert receipt.reference
    assert receipt.days == (there.clock.today,)
    assert not await there.publications()
    await there.publish()
    (batch,) = await there.publications(there.proxies[1])
    of_ill, of_peer = encounter.token_of(met.secret, 0), encounter.token_of(met.secret, 1)
    (found,) = found_in(batch, {of_ill})
    assert (found.day, found.level) == (there.clock.today, 2)
    assert not found_in(batch, {of_peer})
    assert [len(day.tokens) // 16 for day in batch.days] == [64]
