"""Tickets: each of a day is drawn once, by whatever process; used up, it is no refusal of any contact."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent import quota
from agent.kept import State
from protocol import contact, messages
from protocol.errors import QuotaRefused
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.servers import problem
from tests.agent.test_sync import a_proxy, clock, sync, the_one

if TYPE_CHECKING:
    from pathlib import Path

    from agent.store import Store
    from agent.sync import Sync
    from tests.agent.clocks import VirtualClock
    from tests.agent.servers import Server

__all__ = ["clock", "sync"]

DAY, MOST = 20_000, 50
CHANCE = random.SystemRandom()


def test_every_ticket_of_a_day_is_drawn_once_and_in_no_order(tmp_path: Path) -> None:
    one, other = joined.make_store(tmp_path), joined.make_store(tmp_path)
    drawn = [quota.draw((one, other)[turn % 2], CHANCE, DAY, MOST).number for turn in range(MOST)]
    assert sorted(drawn) == list(range(MOST))
    assert drawn != sorted(drawn)
    with pytest.raises(QuotaRefused, match="goes on tomorrow"):
        quota.draw(one, CHANCE, DAY, MOST)
    assert quota.draw(one, CHANCE, DAY, MOST + 1).number == MOST, "the authority may give more"
    assert quota.draw(one, CHANCE, DAY + 1, MOST).day == DAY + 1
    for opened in (one, other):
        opened.close()


def test_two_processes_at_once_never_draw_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one draws between this one's look and its note."""
    swap, other = type(store).swap, list[contact.Ticket]()

    def late(self: Store, name: str, before: object, after: object) -> bool:
        monkeypatch.undo()
        other.append(quota.draw(self, CHANCE, DAY, 2))
        return swap(self, name, before, after)

    monkeypatch.setattr(type(store), "swap", late)
    assert {quota.draw(store, CHANCE, DAY, 2), *other} == {contact.Ticket(DAY, number) for number in range(2)}


def test_a_clock_that_goes_wrong_and_comes_back_finds_its_day_again(store: Store) -> None:
    drawn = [quota.draw(store, CHANCE, day, MOST) for day in (DAY, DAY + 400, DAY + 401, DAY - 1) for _ in range(10)]
    again = [quota.draw(store, CHANCE, DAY, MOST) for _ in range(10)]
    assert len({*drawn, *again}) == 50
    for day in range(DAY + 1, DAY + 30):
        quota.draw(store, CHANCE, day, MOST)
    kept = store.get(quota.USED, quota.Used)
    assert kept is not None
    assert len(kept.days) == quota.DAYS_KEPT, "older ones are forgotten"


async def test_a_used_ticket_refuses_no_contact_and_the_next_one_is_another(
    store: Store, sync: Sync, server: Server, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = []
    submit = contact.submit

    def noted(*told: object) -> messages.Submission:
        made: messages.Submission = submit(*told)  # type: ignore[arg-type]
        tickets.append(contact.ticket_of(made))
        kept = store.get(quota.USED, quota.Used)
        assert kept is not None, "noted before it is sent"
        assert int.from_bytes(kept.days[tickets[-1].day], "little") >> tickets[-1].number & 1
        return made

    monkeypatch.setattr(contact, "submit", noted)
    server.answer = problem(409, {"type": "urn:spot:quota", "detail": "used for another contact"})
    for _ in range(5):
        await sync.step()
        assert (the_one(store).state, the_one(store).refusals) == (State.WAITING, 0)
        clock.set(the_one(store).due)
    a_proxy(server)
    await sync.step()
    assert the_one(store).state is State.SIGNED
    assert len(set(tickets)) == 6


async def test_without_tickets_a_contact_waits_for_tomorrow(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    a_proxy(server)
    most = sync.account.parameters.limits.submissions
    store.put(quota.USED, quota.Used({DAY: b"\xff" * (most // 8)}))
    await sync.step()
    assert (the_one(store).state, the_one(store).refusals) == (State.WAITING, 0)
    assert "goes on tomorrow" in the_one(store).problem
    clock.set(NOON + 86_400)
    await sync.step()
    assert the_one(store).state is State.SIGNED
