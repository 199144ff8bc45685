"""Attack 24: buy a diagnosed person's code (**not prevented**), an encounter after a diagnosis, or another day for one.

Whoever sells a code warns the buyer's contacts in place of their own. An encounter cannot be bought once the diagnosis
is known: the server takes a nullifier it never saw only for the last days, and the seller would have to have submitted
then; nor can the day be moved to where it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend_stub.server import matching
from protocol.encounter import token_of
from protocol.errors import Refused
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from backend_stub.server.matching import Side

DAYS_LATER = 4  # no first submission is taken any more; a day later, the victim's is forgotten as well


async def published(there: World, met: Encounter) -> bool:
    """Whether one side of this encounter was published."""
    tokens = b"".join(day.tokens for batch in await there.publications() for day in batch.days)
    return any(token_of(met.secret, role) in tokens for role in (0, 1))


async def test_a_bought_code_declares_the_buyer_s_contacts(there: World) -> None:
    buyer, victim = await there.pair()
    met, record = await there.meet(buyer, victim)
    sold = await there.code()  # a diagnosed person's
    assert (await there.declare(buyer, sold, [(met, record)])).accepted
    await there.publish()
    assert await published(there, met), "not prevented; if this fails, tell the docs"


async def buy_an_encounter(there: World, days_later: int) -> bool:
    """A seller met a victim and has E. Days later somebody is diagnosed, and submits it as an encounter of their own.

    The victim's side was submitted in time. Whether the patient gets it signed.
    """
    patient, victim = await there.pair()
    met, then = Encounter(), there.clock.today
    await there.submit(victim, met)
    there.clock.pass_by(days=days_later)
    try:
        return await there.submit(patient, met, then) is not None
    except Refused:
        return False


async def test_an_encounter_bought_after_the_diagnosis_is_refused(there: World) -> None:
    assert not await buy_an_encounter(there, DAYS_LATER)


async def test_within_the_last_days_it_can_be_bought(there: World) -> None:
    """How far it gets: as long as honest agents may come late, so may a buyer; the onset comes with the code."""
    first_seen = (await there.trusted()).parameters.limits.first_seen_days
    assert await buy_an_encounter(there, first_seen)


async def test_a_server_that_takes_any_day_would_sell(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = matching.match
    monkeypatch.setattr(matching, "match", lambda database, asked, _first, _last: honest(database, asked, 0, 10**6))
    assert await buy_an_encounter(there, DAYS_LATER)


async def launder(there: World) -> bool:
    """Buy an old encounter, and submit it for a day that is still taken. Whether it gets signed."""
    patient, victim = await there.pair()
    met = Encounter()
    await there.submit(victim, met)
    there.clock.pass_by(days=DAYS_LATER)
    return await there.submit(patient, met) is not None


async def test_its_day_cannot_be_laundered(there: World) -> None:
    assert not await launder(there), "days more than one apart do not match"


async def test_without_the_days_being_near_it_could(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def newly_matched(sides: Mapping[bytes, Side]) -> list[bytes]:
        return list(sides) if len(sides) > 1 else []

    monkeypatch.setattr(matching, "newly_matched", newly_matched)
    assert await launder(there)
