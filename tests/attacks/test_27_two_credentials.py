"""Attack 27: one person, two credentials: a second invitation, a repeated T, a reused nonce, concurrent joins.

An invitation is good once, and so are a public key and a nonce. A second invitation is the authority's to give or not:
whoever gets two is two users, **not prevented** here. Who is two users can play both sides.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest

from protocol import credential, messages
from protocol.errors import SpotError
from tests.backend_stub.support import CURVE, Encounter, User, World

if TYPE_CHECKING:
    from collections.abc import Sequence


async def issued(there: World, bodies: Sequence[bytes]) -> int:
    """Send these joins all at once. How many different credentials came back."""

    async def one(body: bytes) -> bytes | None:
        try:
            return await there.send_join(body)
        except SpotError:
            return None

    return len({answer for answer in await asyncio.gather(*(one(body) for body in bodies)) if answer is not None})


def key() -> int:
    return credential.new_secret(secrets.token_bytes)


async def test_one_invitation_is_one_credential_however_many_join_with_it(there: World) -> None:
    invitation = await there.invite()
    assert await issued(there, [await there.join_body(invitation, key()) for _ in range(8)]) == 1


async def test_one_public_key_is_one_credential(there: World) -> None:
    secret = key()
    assert await issued(there, [await there.join_body(await there.invite(), secret) for _ in range(4)]) == 1


async def test_one_nonce_is_one_credential(there: World) -> None:
    nonce = await there.nonce()
    assert await issued(there, [await there.join_body(await there.invite(), key(), nonce) for _ in range(4)]) == 1


async def test_a_nonce_that_nobody_gave_out_is_none(there: World) -> None:
    body = await there.join_body(await there.invite(), key(), secrets.token_bytes(32))
    assert await issued(there, [body]) == 0


async def test_the_same_join_sent_again_gets_the_same_credential(there: World) -> None:
    body = await there.join_body(await there.invite(), key())
    assert await issued(there, [body] * 5) == 1


async def test_two_invitations_are_two_users_and_two_sides(there: World) -> None:
    """How far it gets: why the authority gives one invitation a person."""
    one, again = await there.user(), await there.user()
    _, record = await there.meet(one, again)
    assert record is not None, "if this fails, it is prevented: tell the docs"


async def test_with_one_invitation_a_person_is_one_side(there: World) -> None:
    invitation, secret = await there.invite(), key()
    first = await there.join_body(invitation, secret)
    issuer = (await there.keys()).issuer(1)
    answers = [await there.send_join(first)]
    with pytest.raises(SpotError):
        answers.append(await there.send_join(await there.join_body(invitation, key())))
    credentials = [credential.accept(CURVE, secret, issuer, messages.decode(messages.Issued, one)) for one in answers]
    met = Encounter()
    for own in credentials * 2:
        assert await there.submit(User(own), met) is None
