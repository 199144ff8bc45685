"""Attack 23: batch arithmetic. One weight for both equations of a proof is a total break: any nullifier can be forged.

A registered user who can forge nullifiers is two users: plays both sides of a contact and gets it signed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from protocol import batch, contact, credential, messages, randomness
from protocol.batch import Linear
from protocol.curve import ORDER, encode_scalar
from protocol.errors import Refused
from tests.backend_stub.support import CURVE, Encounter, User, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.batch import Claim
    from protocol.curve import G1, Curve
    from protocol.randomness import Random


def forge(user: User, key: credential.IssuerKey, met: Encounter, ticket: contact.Ticket) -> messages.Submission:
    """A submission under a nullifier that is not the user's own.

    z is proved for the base A + J and the point D + N, with N = z·(A + J) - D, and the commitment is split into K and L
    at will: the sum of both equations holds, and neither does by itself.
    """
    random, own = secrets.token_bytes, user.credential
    statement = contact.submission_statement(CURVE, key, met.ccm, ticket.day, ticket)
    shown = credential.randomise(random, own)
    z, nonce = randomness.scalar(random), randomness.scalar(random)
    both = shown.a + statement.bases[0]
    nullifiers = (z * both - shown.d).encode(), (z * statement.bases[1]).encode()
    k = randomness.scalar(random) * CURVE.g1
    commitments = (nonce * both - k).encode(), (nonce * statement.bases[1]).encode()
    challenge = credential._show_challenge(statement, shown.encoded, k.encode(), nullifiers, commitments)
    show = messages.Show(
        a=shown.encoded[0],
        b=shown.encoded[1],
        d=shown.encoded[2],
        k=k.encode(),
        nullifiers=nullifiers,
        commitments=commitments,
        answer=encode_scalar((nonce + challenge * z) % ORDER),
    )
    sent_day, number = ticket.day, ticket.number
    return messages.Submission(
        issuer=user.issuer, ccm=met.ccm, day=ticket.day, sent_day=sent_day, ticket=number, show=show
    )


async def play_both_sides(there: World) -> bool:
    """One user submits a meeting with nobody under its own nullifier and under a forged one. Whether it is signed."""
    user, met = await there.user(), Encounter()
    key = (await there.keys()).issuer(user.issuer)
    assert await there.submit(user, met) is None
    try:
        await there.send_submission(forge(user, key, met, there.ticket(user)), there.proxies[1])
    except Refused:
        return False
    return await there.submit(user, met) is not None


async def test_a_forged_nullifier_is_refused(there: World) -> None:
    assert not await play_both_sides(there)


@dataclass(frozen=True)
class OneWeight:
    """A verifier as it must not be: the equations of a claim share their weight."""

    curve: Curve
    random: Random

    def holds(self, claims: Sequence[Claim]) -> bool:
        points: list[G1] = []
        scalars: list[int] = []
        for claim in claims:
            weight = randomness.weight(self.random)
            for equation in claim:
                if isinstance(equation, Linear):
                    points += equation.points
                    scalars += [weight * scalar for scalar in equation.scalars]
                elif not self.curve.pairing_product_is_one(list(equation.pairs)):
                    return False
        return not points or self.curve.sum_of_products(points, scalars).is_identity


async def test_one_weight_a_proof_would_make_one_user_two(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "holds", lambda curve, random, claims: OneWeight(curve, random).holds(claims))
    assert await play_both_sides(there)


@pytest.mark.parametrize("empty", [[], [()]])
def test_an_empty_batch_proves_nothing(empty: list[Claim]) -> None:
    with pytest.raises(ValueError, match="an empty batch proves nothing"):
        batch.holds(CURVE, bytes, empty)


def test_lists_of_unequal_length_are_an_error_and_not_cut() -> None:
    with pytest.raises(ValueError, match="as many scalars as points"):
        Linear((CURVE.g1, CURVE.g1), (1,))
