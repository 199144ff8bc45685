"""Batches: one weight an equation, nothing passes for lack of anything to check, the bad ones are named exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import batch, contact, credential, messages, randomness
from protocol.batch import Linear, Pairing
from protocol.curve import ORDER
from protocol.errors import Refused
from tests.protocol.dishonest import failing_equations, honest_recipe, prove
from tests.support import TICKET, Source, world_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.batch import Claim
    from protocol.curve import G1, Curve
    from tests.support import World


class Recorder:
    """A random source that remembers what it gave."""

    def __init__(self) -> None:
        self._source = Source("weights")
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self.given.append(self._source(size))
        return self.given[-1]


def _linear(curve: Curve, good: bool = True) -> Claim:
    return (Linear((7 * curve.g1, curve.g1), (1, -7 if good else -8)),)


def _pairing(curve: Curve, good: bool = True) -> Claim:
    return (Pairing(((3 * curve.g1, curve.g2), (-curve.g1, (3 if good else 4) * curve.g2))),)


# --- nothing to check ---


@pytest.mark.parametrize("empty", [[], [()], [(), ()]])
def test_an_empty_batch_proves_nothing(curve: Curve, empty: list[Claim]) -> None:
    with pytest.raises(ValueError, match="an empty batch proves nothing"):
        batch.holds(curve, Source("weights"), empty)
    with pytest.raises(ValueError, match="an empty batch proves nothing"):
        batch.failing(curve, Source("weights"), empty)


def test_an_empty_claim_among_good_ones_proves_nothing(curve: Curve) -> None:
    with pytest.raises(ValueError, match="an empty batch proves nothing"):
        batch.holds(curve, Source("weights"), [_linear(curve), ()])


@pytest.mark.parametrize(("points", "scalars"), [(2, 1), (1, 2), (0, 1)])
def test_an_equation_of_unequal_lengths_is_an_error(curve: Curve, points: int, scalars: int) -> None:
    with pytest.raises(ValueError, match="as many scalars as points"):
        Linear((curve.g1,) * points, (1,) * scalars)


# --- weights ---


def test_every_equation_has_a_weight_of_its_own(world: World) -> None:
    shown = world.contacts[0].submission
    statement = contact.submission_statement(world.curve, world.users.key, shown.ccm, shown.day, TICKET)
    claim = credential.show_claim(world.curve, statement, shown.show)
    random = Recorder()
    assert batch.holds(world.curve, random, [claim, claim])
    assert [len(weight) for weight in random.given] == [16] * 2 * len(claim)
    assert len(set(random.given)) == 2 * 4


@given(st.binary(min_size=16, max_size=16))
def test_a_weight_is_never_zero(drawn: bytes) -> None:
    assert 1 <= randomness.weight(lambda size: drawn) < 2**128


def test_a_weight_of_zero_is_not_taken(curve: Curve) -> None:
    assert not batch.holds(curve, bytes, [_linear(curve, good=False)])


@given(st.binary(min_size=48, max_size=48))
def test_a_scalar_drawn_is_never_zero(drawn: bytes) -> None:
    assert 1 <= randomness.scalar(lambda size: drawn) < ORDER


def test_errors_of_two_claims_do_not_cancel(curve: Curve) -> None:
    up = (Linear((curve.g1,), (1,)),)
    down = (Linear((curve.g1,), (-1,)),)
    assert not batch.holds(curve, Source("weights"), [up, down])
    assert batch.failing(curve, Source("weights"), [up, down]) == [0, 1]


def test_errors_of_two_equations_of_a_claim_do_not_cancel(curve: Curve) -> None:
    claim = (Linear((curve.g1,), (1,)), Linear((curve.g1,), (-1,)))
    assert not batch.holds(curve, Source("weights"), [claim])
    pair = Pairing(((curve.g1, curve.g2),)), Pairing(((-curve.g1, curve.g2),))
    assert not batch.holds(curve, Source("weights"), [pair])


# --- the forgery that one weight for two equations allows ---


def _holds_with_one_weight_a_proof(world: World, claims: Sequence[Claim]) -> bool:
    """A verifier as it must not be: the linear equations of a proof share their weight."""
    points: list[G1] = []
    scalars: list[int] = []
    for claim in claims:
        weight = randomness.weight(world.random)
        for equation in claim:
            if isinstance(equation, Linear):
                points += equation.points
                scalars += [weight * scalar for scalar in equation.scalars]
            elif not world.curve.pairing_product_is_one(equation.pairs):
                return False
    return world.curve.sum_of_products(points, scalars).is_identity


def _forged_submission(world: World) -> tuple[credential.Statement, messages.Show]:
    """Alice's submission under a nullifier that is not hers, and of which she can make as many as she likes.

    She proves z for the base A + J and the point D + N, where N = z·(A + J) - D for any z, and splits the commitment
    k·(A + J) into any K and L. The sum of both equations holds; neither does by itself.
    """
    random, own, ccm = world.random, world.alice.credential, world.contacts[0].submission.ccm
    statement = contact.submission_statement(
        world.curve, world.users.key, ccm, world.contacts[0].submission.day, TICKET
    )
    recipe = honest_recipe(world, own.secret, own.s1, own.s2)
    z, nonce = randomness.scalar(random), randomness.scalar(random)
    both, ticket = recipe.a + statement.bases[0], statement.bases[1]
    k = randomness.scalar(random) * world.curve.g1
    made = replace(
        recipe,
        secret=z,
        nonce=nonce,
        nullifiers=(z * both - recipe.d, z * ticket),
        k=k,
        commitments=(nonce * both - k, nonce * ticket),
    )
    return statement, prove(world, statement, made)


def test_one_weight_for_two_equations_would_let_anybody_be_two_users(world: World) -> None:
    statement, shown = _forged_submission(world)
    claim = credential.show_claim(world.curve, statement, shown)
    assert shown.nullifiers != world.contacts[0].submission.show.nullifiers
    assert _holds_with_one_weight_a_proof(world, [claim]), "the forgery is a real one"
    assert failing_equations(world, claim) == [0, 1]
    with pytest.raises(Refused, match="proof of a valid credential does not hold"):
        credential.verify(world.curve, world.random, statement, shown)


def test_a_forgery_does_not_hide_among_honest_proofs(world: World) -> None:
    statement, shown = _forged_submission(world)
    honest = world.contacts[0].submission.show
    claims = [credential.show_claim(world.curve, statement, one) for one in (honest, shown, honest)]
    assert _holds_with_one_weight_a_proof(world, claims)
    assert batch.failing(world.curve, world.random, claims) == [1]


# --- naming the bad ones ---


@given(st.lists(st.booleans(), min_size=1, max_size=9))
@settings(max_examples=60)
def test_halving_names_exactly_the_bad_ones(goods: list[bool]) -> None:
    curve = world_of("arkworks").curve
    claims = [(_linear if index % 2 else _pairing)(curve, good) for index, good in enumerate(goods)]
    bad = [index for index, good in enumerate(goods) if not good]
    assert batch.failing(curve, Source("weights"), claims) == bad
    assert batch.holds(curve, Source("weights"), claims) is not bool(bad)


def test_no_more_than_the_most_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch of bad claims costs has a bound, and good claims outside a part that fails stay good."""
    curve = world_of("arkworks").curve
    claims = [_linear(curve, index >= 32) for index in range(64)]
    holds, calls = batch.holds, []
    monkeypatch.setattr(batch, "holds", lambda *given: calls.append(len(given[2])) or holds(*given))  # type: ignore[func-returns-value]
    bad, doubtful = batch.sift(curve, Source("weights"), claims, 4)
    assert (bad, doubtful) == ([0, 1, 2, 3], list(range(4, 32)))
    assert sum(calls) < 4 * len(claims)
    assert len(calls) < len(claims) / 4


@pytest.mark.parametrize("bad", [set(), {0}, {4}, {1, 3}, {0, 1, 2, 3, 4}])
def test_halving_names_exactly_the_bad_ones_with_either_maker(curve: Curve, bad: set[int]) -> None:
    claims = [_linear(curve, index not in bad) for index in range(5)]
    assert batch.failing(curve, Source("weights"), claims) == sorted(bad)
