"""Credentials: what issuing and showing promise, beyond refusing what was altered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace as altered

from protocol import batch, contact, credential
from protocol.credential import Credential, IssuerSecret
from protocol.errors import Malformed
from tests.protocol.alterations.credentials import SHOWINGS, Showing

if TYPE_CHECKING:
    from protocol.credential import IssuerKey
    from protocol.curve import G1
    from tests.support import World


def test_a_credential_is_good_for_shows(world: World) -> None:
    for showing in SHOWINGS.values():
        whole = showing(world)
        credential.verify(world.curve, world.random, whole.statement, whole.shown)


def test_two_shows_have_nothing_in_common_but_the_nullifier(world: World) -> None:
    whole = SHOWINGS["submission"](world)
    one, other = (credential.show(world.random, whole.own, whole.statement) for _ in range(2))
    assert one.nullifiers == other.nullifiers == whole.shown.nullifiers
    for field in ("a", "b", "d", "k", "commitments", "answer"):
        assert getattr(one, field) != getattr(other, field)


def test_nullifiers_of_two_contacts_differ_and_so_do_those_of_two_users(world: World) -> None:
    nullifiers = [contact.nullifier_of(one.submission) for one in (*world.contacts, *world.others)]
    assert len(set(nullifiers)) == len(nullifiers) == 5


def test_users_send_no_multiple_of_their_secret_in_g2(world: World) -> None:
    """With one, whoever holds it would recognise every show: e(A, T~) = e(D, Y~)."""
    assert world.alice.request.opening is None
    assert world.removed.request.opening is not None
    forbidden = (world.alice.credential.secret * world.users.key.y).encode()
    generator = (world.alice.credential.secret * world.curve.g2).encode()
    for message in (world.alice.request, world.contacts[0].submission.show):
        for value in (getattr(message, field) for field in message.__struct_fields__):
            assert value not in (forbidden, generator)


def test_an_opening_key_finds_its_member_and_no_other(world: World) -> None:
    group = world.groups["north"].key
    opening = world.proxies["north"].request.opening
    assert opening is not None
    staying = world.curve.decode_g2(opening, "an opening key")
    found = [
        credential.opens(world.curve, group, one.record.proof, [world.removed_opening, staying])
        for one in (world.by_removed, world.contacts[0])
    ]
    assert found == [0, 1]
    assert credential.opens(world.curve, group, world.contacts[0].record.proof, [world.removed_opening]) is None
    assert credential.opens(world.curve, group, world.contacts[0].record.proof, []) is None


def test_opening_keys_of_proxies_open_no_submission(world: World) -> None:
    shown = world.contacts[0].submission.show
    assert credential.opens(world.curve, world.users.key, shown, [world.removed_opening]) is None


def test_many_shows_are_checked_at_once(world: World) -> None:
    claims = [credential.show_claim(world.curve, one.statement, one.shown) for one in _wholes(world)]
    assert batch.holds(world.curve, world.random, claims)


def _wholes(world: World) -> list[Showing]:
    return [showing(world) for showing in SHOWINGS.values()]


def test_a_base_that_is_the_identity_is_refused(world: World) -> None:
    whole = SHOWINGS["submission"](world)
    identity = world.curve.g1 - world.curve.g1
    statement = credential.Statement(
        whole.statement.purpose, whole.statement.issuer, (whole.statement.bases[0], identity), whole.statement.message
    )
    with pytest.raises(Malformed, match="base of this show is the identity"):
        credential.show_claim(world.curve, statement, whole.shown)


@pytest.mark.parametrize("count", [0, 2])
def test_a_show_has_as_many_nullifiers_as_bases(world: World, count: int) -> None:
    whole = SHOWINGS["submission"](world)
    for field in ("nullifiers", "commitments"):
        shown = altered(whole.shown, **{field: getattr(whole.shown, field) * count})
        with pytest.raises(Malformed, match="exactly 2 nullifiers and commitments"):
            credential.show_claim(world.curve, whole.statement, shown)


def _show_parts(world: World) -> dict[str, object]:
    whole = SHOWINGS["submission"](world)
    shown = whole.shown
    return {
        "statement": whole.statement,
        "first": (shown.a, shown.b, shown.d),
        "k": shown.k,
        "nullifiers": shown.nullifiers,
        "commitments": shown.commitments,
    }


def test_the_challenge_of_a_show_covers_every_part(world: World) -> None:
    parts, other = _show_parts(world), world.contacts[1].submission.show
    statement = SHOWINGS["submission"](world).statement
    a, b, d = other.a, other.b, other.d
    first = world.contacts[0].submission.show
    changes: list[dict[str, object]] = [
        {},
        {"statement": replace(statement, purpose=credential.Purpose.OWNERSHIP)},
        {"statement": replace(statement, issuer=world.other_users.key)},
        {"statement": replace(statement, issuer=replace(world.users.key, holder=credential.Holder.PROXY))},
        {"statement": replace(statement, bases=(world.curve.g1,))},
        {"statement": replace(statement, bases=())},
        {"statement": replace(statement, message=b"another")},
        {"first": (a, first.b, first.d)},
        {"first": (first.a, b, first.d)},
        {"first": (first.a, first.b, d)},
        {"k": other.k},
        {"nullifiers": other.nullifiers},
        {"commitments": other.commitments},
        {"nullifiers": first.commitments, "commitments": first.nullifiers},
    ]
    challenges = {_challenge(parts | change) for change in changes}
    assert len(challenges) == len(changes)


def _challenge(parts: dict[str, Any]) -> int:
    return credential._show_challenge(**parts)


def test_the_challenge_of_a_join_covers_every_part(world: World) -> None:
    issuer, group, one = world.users.key, world.groups["north"].key, world.alice.request
    public, nonce, commitment = one.public, one.nonce, world.curve.g1
    calls: list[tuple[IssuerKey, bytes, bytes | None, bytes, G1]] = [
        (issuer, public, None, nonce, commitment),
        (group, public, None, nonce, commitment),
        (replace(issuer, holder=credential.Holder.PROXY), public, None, nonce, commitment),
        (issuer, world.bob.request.public, None, nonce, commitment),
        (issuer, public, world.removed.request.opening, nonce, commitment),
        (issuer, public, None, world.bob.nonce, commitment),
        (issuer, public, None, nonce, 2 * commitment),
    ]
    assert len({credential._join_challenge(*call) for call in calls}) == len(calls)


def test_secrets_print_nothing(world: World) -> None:
    own = world.alice.credential
    secret = world.users.secret
    for holder in (own, secret, world.server, world.seal):
        text = repr(holder) + str(holder)
        for number in (own.secret, secret.x, secret.y, world.server.y):
            assert str(number) not in text
            assert f"{number:x}" not in text
    assert repr(own) == "Credential()"
    assert repr(secret) == "IssuerSecret()"
    assert {type(own), type(secret)} == {Credential, IssuerSecret}
