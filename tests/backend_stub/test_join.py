"""Joining: an invitation, a nonce and a public key are each of use once."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from backend_stub.authority.join import NONCE_SECONDS
from protocol import credential, messages
from protocol.errors import CodeRefused, Malformed, NotMine, Refused

if TYPE_CHECKING:
    from tests.backend_stub.support import ManualClock, World


def new_secret() -> int:
    return credential.new_secret(secrets.token_bytes)


async def test_the_same_request_sent_again_gets_the_same_credential(there: World) -> None:
    body = await there.join_body(await there.invite(), new_secret())
    first = await there.send_join(body)
    assert await there.send_join(body) == first
    await there.backend.stop("authority")
    await there.backend.start("authority")
    assert await there.send_join(body) == first


async def test_an_invitation_is_used_once(there: World) -> None:
    invitation = await there.invite()
    await there.send_join(await there.join_body(invitation, new_secret()))
    with pytest.raises(CodeRefused, match="used already"):
        await there.send_join(await there.join_body(invitation, new_secret()))


async def test_of_concurrent_joins_with_one_invitation_one_wins(there: World) -> None:
    invitation = await there.invite()
    bodies = [await there.join_body(invitation, new_secret()) for _ in range(6)]
    results = await asyncio.gather(*(there.send_join(body) for body in bodies), return_exceptions=True)
    assert sum(isinstance(result, bytes) for result in results) == 1
    assert sum(isinstance(result, CodeRefused) for result in results) == 5


async def test_concurrent_repeats_of_one_request_agree(there: World) -> None:
    body = await there.join_body(await there.invite(), new_secret())
    assert len(set(await asyncio.gather(*(there.send_join(body) for _ in range(6))))) == 1


async def test_a_nonce_is_used_once(there: World) -> None:
    nonce = await there.nonce()
    await there.send_join(await there.join_body(await there.invite(), new_secret(), nonce))
    with pytest.raises(Refused, match="used before"):
        await there.send_join(await there.join_body(await there.invite(), new_secret(), nonce))


async def test_a_public_key_is_used_once(there: World) -> None:
    secret = new_secret()
    await there.send_join(await there.join_body(await there.invite(), secret))
    with pytest.raises(Refused, match="used before"):
        await there.send_join(await there.join_body(await there.invite(), secret))


async def test_a_nonce_of_ones_own_is_refused(there: World) -> None:
    with pytest.raises(Refused, match="nonce"):
        await there.send_join(await there.join_body(await there.invite(), new_secret(), secrets.token_bytes(32)))


async def test_an_old_nonce_is_refused(there: World, clock: ManualClock) -> None:
    body = await there.join_body(await there.invite(), new_secret())
    clock.pass_by(seconds=NONCE_SECONDS + 1)
    with pytest.raises(Refused, match="nonce"):
        await there.send_join(body)


async def test_an_unknown_invitation_is_refused(there: World) -> None:
    for invitation, error in (("AAAA-AAAA-AAAA-AAAA", CodeRefused), ("short", Malformed), ("", Malformed)):
        with pytest.raises(error):
            await there.send_join(await there.join_body(invitation, new_secret()))


async def test_an_expired_invitation_is_refused(there: World, clock: ManualClock) -> None:
    invitation = await there.invite()
    clock.pass_by(days=31)
    with pytest.raises(CodeRefused, match="expired"):
        await there.send_join(await there.join_body(invitation, new_secret()))


async def test_an_invitation_may_be_typed_carelessly(there: World) -> None:
    typed = (await there.invite()).lower().replace("-", "  ").replace("o", "0")
    await there.send_join(await there.join_body(typed, new_secret()))


async def test_a_bad_proof_is_refused_and_does_not_use_up_the_invitation(there: World) -> None:
    body = await there.join_body(await there.invite(), new_secret())
    asked = messages.decode(messages.UserJoin, body)
    forged = msgspec.structs.replace(asked, join=msgspec.structs.replace(asked.join, answer=bytes(32)))
    with pytest.raises(Refused, match="prove"):
        await there.send_join(messages.encode(forged))
    await there.send_join(body)


async def test_users_send_no_opening_key(there: World) -> None:
    asked = messages.decode(messages.UserJoin, await there.join_body(await there.invite(), new_secret()))
    opening = (await there.keys()).issuer(1).encoded[:96]
    opened = msgspec.structs.replace(asked, join=msgspec.structs.replace(asked.join, opening=opening))
    with pytest.raises(Refused, match="opening key"):
        await there.send_join(messages.encode(opened))


async def test_an_unknown_issuer_is_not_mine(there: World) -> None:
    asked = messages.decode(messages.UserJoin, await there.join_body(await there.invite(), new_secret()))
    with pytest.raises(NotMine):
        await there.send_join(messages.encode(msgspec.structs.replace(asked, issuer=7)))
