"""The curve: what is no group element is refused everywhere, and both makers agree about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from protocol import contact, credential, declaration, messages, parameters
from protocol.credential import Holder
from protocol.curve import MAKERS, ORDER, decode_scalar, encode_scalar, open_curve
from protocol.declaration import Reason
from protocol.errors import Malformed, Misuse
from tests.protocol.alterations.credentials import SHOWINGS
from tests.protocol.dishonest import BAD_SCALARS, bad_g1, bad_g2, prove_join, reasons_for
from tests.support import SERVER, world_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.curve import Curve
    from tests.support import World


# --- what a maker is ---


@pytest.mark.parametrize("name", bad_g1())
def test_what_is_no_point_of_g1_is_malformed(curve: Curve, name: str) -> None:
    with pytest.raises(Malformed, match=r"the point is (the identity|not a point of the group)"):
        curve.decode_g1(bad_g1()[name], "the point")


@pytest.mark.parametrize("name", bad_g2())
def test_what_is_no_point_of_g2_is_malformed(curve: Curve, name: str) -> None:
    with pytest.raises(Malformed, match=r"the point is (the identity|not a point of the group)"):
        curve.decode_g2(bad_g2()[name], "the point")


def test_points_of_wrong_size_are_malformed(curve: Curve) -> None:
    one, two = curve.g1.encode(), curve.g2.encode()
    for data in (b"", one[:-1], one + b"\0", two):
        with pytest.raises(Malformed, match="instead of 48"):
            curve.decode_g1(data, "the point")
    for data in (b"", two[:-1], two + b"\0", one):
        with pytest.raises(Malformed, match="instead of 96"):
            curve.decode_g2(data, "the point")


def test_the_identity_is_told_from_every_other_point(curve: Curve) -> None:
    assert not curve.g1.is_identity
    assert not curve.g2.is_identity
    assert (curve.g1 - curve.g1).is_identity
    assert (curve.g2 - curve.g2).is_identity
    assert (ORDER * curve.g1).is_identity
    assert (ORDER * curve.g2).is_identity
    with pytest.raises(Malformed, match="is the identity"):
        curve.decode_g1((0 * curve.g1).encode(), "the point")
    with pytest.raises(Malformed, match="is the identity"):
        curve.decode_g2((0 * curve.g2).encode(), "the point")


@given(st.binary(min_size=47, max_size=47), st.integers(0, 255))
@settings(max_examples=200)
def test_any_48_bytes_mean_the_same_to_both_makers(rest: bytes, first: int) -> None:
    meanings: list[bytes | None] = []
    for name in MAKERS:
        try:
            point = world_of(name).curve.decode_g1(bytes([first]) + rest, "the point")
        except Malformed:
            meanings.append(None)
        else:
            assert point.encode() == bytes([first]) + rest, "a point has one encoding"
            meanings.append(point.encode())
    assert meanings[0] == meanings[1]


@given(st.integers(1, ORDER - 1), st.integers(0, 7), st.binary(min_size=0, max_size=2))
@settings(max_examples=30)
def test_a_point_has_one_encoding(scalar: int, flags: int, change: bytes) -> None:
    """A nullifier is compared as bytes, so that a second encoding would be a second nullifier."""
    for name in MAKERS:
        maker = world_of(name).curve
        encoded = (scalar * maker.g1).encode()
        other = bytes([encoded[0] & 0x1F | flags << 5]) + encoded[1 : 48 - len(change)] + change
        try:
            point = maker.decode_g1(other, "the point")
        except Malformed:
            continue
        assert point.encode() == other


def test_arithmetic(curve: Curve) -> None:
    g, h = curve.g1, curve.g2
    assert 2 * g == g + g != g
    assert -g == (ORDER - 1) * g
    assert hash(2 * g) == hash(g + g)
    assert g.encode() != (-g).encode()
    assert g != curve.g2
    assert curve.decode_g1(g.encode(), "g") == g
    assert curve.decode_g2(h.encode(), "g~") == h


def test_a_sum_of_products(curve: Curve) -> None:
    points = [index * curve.g1 for index in (1, 2, 3)]
    assert curve.sum_of_products(points, [5, -1, ORDER + 2]) == 9 * curve.g1
    assert curve.sum_of_products([], []).is_identity


@pytest.mark.parametrize(("points", "scalars"), [(1, 0), (0, 1), (2, 1), (1, 2)])
def test_a_sum_of_unequal_lengths_is_an_error(curve: Curve, points: int, scalars: int) -> None:
    with pytest.raises(ValueError, match=r"as many|shorter|longer"):
        curve.sum_of_products([curve.g1] * points, [1] * scalars)


def test_a_product_of_pairings(curve: Curve) -> None:
    g, h = curve.g1, curve.g2
    assert curve.pairing_product_is_one([(6 * g, h), (-(2 * g), 3 * h)])
    assert not curve.pairing_product_is_one([(6 * g, h), (-(2 * g), 2 * h)])
    assert not curve.pairing_product_is_one([(g, h)])


def test_makers_are_opened_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_curve().name == "arkworks"
    with pytest.raises(Misuse, match="no curve maker 'blst'; use one of arkworks, py_ecc"):
        open_curve("blst")
    monkeypatch.setitem(sys.modules, "py_arkworks_bls12381", None)
    monkeypatch.delitem(sys.modules, "protocol.curve.arkworks")
    assert open_curve().name == "py_ecc"
    with pytest.raises(Misuse, match=r"arkworks is not installed .*pip install"):
        open_curve("arkworks")


# --- scalars ---


@given(st.integers(0, ORDER - 1))
def test_a_scalar_comes_back(value: int) -> None:
    assert decode_scalar(encode_scalar(value), "the scalar") == value


@given(st.integers(ORDER, 2**256 - 1))
def test_a_scalar_not_below_the_order_is_malformed(value: int) -> None:
    with pytest.raises(Malformed, match="the scalar is not a scalar"):
        decode_scalar(value.to_bytes(32, "big"), "the scalar")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_scalar_of_wrong_size_is_malformed(size: int) -> None:
    with pytest.raises(Malformed, match="the scalar is not a scalar"):
        decode_scalar(bytes(size), "the scalar")


# --- every field that holds a point or scalar, at the check that reads it ---


def _show_fields(kind: str) -> dict[str, Callable[[World, bytes], object]]:
    def check(field: str, many: bool) -> Callable[[World, bytes], object]:
        def attempt(world: World, data: bytes) -> None:
            whole = SHOWINGS[kind](world)
            shown = altered(whole.shown, **{field: (data, *getattr(whole.shown, field)[1:]) if many else data})
            credential.show_claim(world.curve, whole.statement, shown)

        return attempt

    single = {f"{kind}: the show's {field.upper()}": check(field, False) for field in ("a", "b", "d", "k")}
    if kind == "extension":
        return single
    return single | {
        f"{kind}: the show's nullifier": check("nullifiers", True),
        f"{kind}: the show's commitment": check("commitments", True),
    }


def _issue(world: World, **change: bytes) -> None:
    issuer, request = world.users, altered(world.alice.request, **change)
    credential.issue(world.curve, world.random, issuer.secret, issuer.key, request, world.alice.nonce)


def _issue_opening(world: World, data: bytes) -> None:
    issuer = world.groups["north"]
    request = prove_join(world, issuer.key, credential.new_secret(world.random), bytes(32), data)
    credential.issue(world.curve, world.random, issuer.secret, issuer.key, request, bytes(32))


def _read_issuer(world: World, **change: bytes) -> None:
    credential.read_issuer(world.curve, Holder.USER, altered(world.users.public, **change))


def _accept(world: World, **change: bytes) -> None:
    issued = altered(world.alice.issued, **change)
    credential.accept(world.curve, world.alice.credential.secret, world.users.key, issued)


def _check_partial(world: World, data: bytes) -> None:
    partial = messages.Partial(server=SERVER, signature=data)
    contact.check_partial(world.curve, world.random, world.keys.signers, world.contacts[0].submission, partial)


def _record_claims(world: World, **change: bytes) -> None:
    contact.record_claims(world.curve, world.keys.signers, altered(world.contacts[0].record, **change))


def _opens(world: World, **change: bytes) -> None:
    shown = altered(world.contacts[0].record.proof, **change)
    credential.opens(world.curve, world.groups["north"].key, shown, [world.removed_opening])


def _check_ownership(world: World, data: bytes) -> None:
    one, other = world.body.contacts
    worse = (altered(one, record=altered(one.record, nullifier=data)), other)
    digest, shown = bytes(32), world.report.ownership
    declaration.check_ownership(world.curve, world.random, world.users.key, worse, digest, shown)


POINTS_1: dict[str, Callable[[World, bytes], object]] = {
    **_show_fields("submission"),
    **_show_fields("extension"),
    **_show_fields("ownership"),
    "the join request's public key": lambda world, data: _issue(world, public=data),
    "the credential's S1": lambda world, data: _accept(world, s1=data),
    "the credential's S2": lambda world, data: _accept(world, s2=data),
    "the partial signature": _check_partial,
    "record: the partial signature": lambda world, data: _record_claims(world, partial=data),
    "record: the record's nullifier": lambda world, data: _record_claims(world, nullifier=data),
    "opened: the show's A": lambda world, data: _opens(world, a=data),
    "opened: the show's D": lambda world, data: _opens(world, d=data),
    "a record's nullifier": _check_ownership,
}
POINTS_2: dict[str, Callable[[World, bytes], object]] = {
    "the issuer key's X": lambda world, data: _read_issuer(world, x=data),
    "the issuer key's Y": lambda world, data: _read_issuer(world, y=data),
    "the join request's opening key": _issue_opening,
    "the server's key": lambda world, data: parameters.read_keys(
        world.curve, altered(world.parameters, server_keys=(altered(world.parameters.server_keys[0], key=data),))
    ),
}
SCALARS: dict[str, Callable[[World, bytes], object]] = {
    "the issuer key's challenge": lambda world, data: _read_issuer(world, challenge=data),
    "the issuer key's answer for x": lambda world, data: _read_issuer(world, answer_x=data),
    "the issuer key's answer for y": lambda world, data: _read_issuer(world, answer_y=data),
    "the join request's challenge": lambda world, data: _issue(world, challenge=data),
    "the join request's answer": lambda world, data: _issue(world, answer=data),
    "the show's answer": lambda world, data: credential.show_claim(
        world.curve,
        SHOWINGS["submission"](world).statement,
        altered(world.contacts[0].submission.show, answer=data),
    ),
}


def _refused_as(world: World, what: str, attempt: Callable[[World, bytes], object], data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        attempt(world, data)
    assert refusal.value.text.startswith(what.rpartition(": ")[2] + " is ")


@pytest.mark.parametrize("what", POINTS_1)
def test_no_field_takes_what_is_no_point_of_g1(world: World, what: str) -> None:
    for data in bad_g1().values():
        _refused_as(world, what, POINTS_1[what], data)


@pytest.mark.parametrize("what", POINTS_2)
def test_no_field_takes_what_is_no_point_of_g2(world: World, what: str) -> None:
    # The server's key is read after four other keys: a few kinds of bad points show that it is checked.
    kinds = list(bad_g2().values())
    for data in kinds[:1] + kinds[-1:] if what == "the server's key" else kinds:
        _refused_as(world, what, POINTS_2[what], data)


@pytest.mark.parametrize("what", SCALARS)
def test_no_field_takes_a_scalar_not_below_the_order(world: World, what: str) -> None:
    for data in BAD_SCALARS.values():
        _refused_as(world, what, SCALARS[what], data)


@pytest.mark.parametrize("field", ["nullifier", "partial"])
def test_a_bad_point_in_a_declared_record_is_named_with_its_record(world: World, field: str) -> None:
    one = world.contacts[0].declared
    worse = [
        altered(one, record=altered(one.record, **{field: data})) for name, data in bad_g1().items() if "order" in name
    ]
    for declared in worse:
        assert reasons_for(world, [declared]) == [Reason.MALFORMED]
