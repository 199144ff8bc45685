"""Attack 12: the server signs a CCM with one side, or signs wrongly.

A lone CCM that it signs for an accomplice becomes a record, is even accepted when the accomplice is diagnosed, and is
worth nothing: nobody else holds the secret behind it. What it signs wrongly goes no further than the proxy, and were
the proxy in league with it, no further than the agent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from agent.kept import State
from backend_stub.proxy import service as proxy
from protocol import contact
from protocol.encounter import token_of
from tests.attacks.lone import signing_the_lone
from tests.backend_stub.support import Encounter, World
from tests.end_to_end import people

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.contact import ServerSecret
    from protocol.curve import Curve


async def test_a_lone_contact_that_it_signs_warns_nobody(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    signing_the_lone(monkeypatch)
    accomplice, invented = await there.user(), Encounter()
    record = await there.submit(accomplice, invented)
    assert record is not None, "the attack did reach the accomplice"
    honest = [Encounter() for _ in range(50)]
    receipt = await there.declare(accomplice, await there.code(), [(invented, record)])
    assert receipt.accepted
    await there.publish()
    tokens = b"".join(day.tokens for batch in await there.publications() for day in batch.days)
    assert token_of(invented.secret, 0) in tokens
    assert not any(token_of(met.secret, role) in tokens for met in honest for role in (0, 1))


def sign_wrongly(curve: Curve, secret: ServerSecret, ccm: bytes, day: int, nullifier: bytes) -> bytes:
    """A signature under a key of the moment, which would mark whom it is given to."""
    other, _ = contact.new_server_key(curve, secrets.token_bytes)
    return honest_signature(curve, other, ccm, day, nullifier)


honest_signature = contact.sign_partially


async def meet_under_a_bad_server(folder: Path) -> list[State]:
    """Two meet and submit; the server signs wrongly. The states of one's encounters."""
    async with people.world(folder, ("left", "right")) as there:
        left, right = there.people.values()
        there.meet(left, right, minutes=5)
        for _ in range(2):
            await left.sync()
            await right.sync()
            there.clock.jump(2 * 3600)
        return left.states()


async def test_what_it_signs_wrongly_goes_no_further_than_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contact, "sign_partially", sign_wrongly)
    states = await meet_under_a_bad_server(tmp_path)
    assert State.SIGNED not in states
    assert "signed 1 of 1 submissions wrongly" in caplog.text, "its operator is told"


async def test_nor_further_than_the_agent_if_the_proxy_does_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "sign_partially", sign_wrongly)
    monkeypatch.setattr(proxy.Extender, "_wrong_partials", lambda self, known, submissions, partials: set())
    states = await meet_under_a_bad_server(tmp_path)
    assert State.SIGNED not in states


async def test_if_neither_looked_the_contact_list_would_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "sign_partially", sign_wrongly)
    monkeypatch.setattr(proxy.Extender, "_wrong_partials", lambda self, known, submissions, partials: set())
    monkeypatch.setattr(contact, "check_record", lambda *_: None)
    states = await meet_under_a_bad_server(tmp_path)
    assert State.SIGNED in states


@pytest.mark.parametrize("moved", [-1, 1])
async def test_a_day_that_it_moves_goes_no_further_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    def sign_for_another_day(curve: Curve, secret: ServerSecret, ccm: bytes, day: int, nullifier: bytes) -> bytes:
        return honest_signature(curve, secret, ccm, day + moved, nullifier)

    monkeypatch.setattr(contact, "sign_partially", sign_for_another_day)
    assert State.SIGNED not in await meet_under_a_bad_server(tmp_path)
