"""Declarations: each bad contact named at once, ownership, seal, receipt, codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from protocol import declaration, messages
from protocol.declaration import Reason
from protocol.errors import Malformed, Refused
from protocol.messages import Receipt
from tests.protocol.dishonest import declare, reasons_for, receive
from tests.support import DAY, world_of

if TYPE_CHECKING:
    from protocol.messages import DeclaredContact
    from tests.support import World


# --- the contacts ---


def test_every_reason_is_named_at_once(world: World) -> None:
    """One list with each of the faults, and a good contact among them."""
    random = world.random
    made = [world.contact(world.alice, random(32)).declared for _ in range(9)]
    reported, twice = made[5], world.contact(world.alice, random(32)).declared
    borrowed = altered(made[6], record=altered(made[6].record, nullifier=made[7].record.nullifier))
    bad: list[tuple[DeclaredContact, Reason]] = [
        (world.contacts[0].declared, Reason.FINE),
        (altered(made[0], record=altered(made[0].record, partial=b"\xc0" + bytes(47))), Reason.MALFORMED),
        (altered(made[1], secret=bytes(32)), Reason.CCM),
        (altered(made[2], role=2), Reason.ROLE),
        (altered(made[3], record=altered(made[3].record, day=DAY + 1)), Reason.DAY),
        (twice, Reason.DUPLICATE_CCM),
        (altered(twice, role=1), Reason.DUPLICATE_CCM),
        (borrowed, Reason.DUPLICATE_NULLIFIER),
        (made[7], Reason.DUPLICATE_NULLIFIER),
        (reported, Reason.REPORTED),
        (altered(made[4], record=altered(made[4].record, group="nowhere")), Reason.GROUP),
        (altered(made[8], record=altered(made[8].record, server=9)), Reason.SERVER),
        (altered(world.contacts[1].declared, record=altered(world.contacts[1].record, day=DAY - 1)), Reason.PARTIAL),
        (
            altered(world.contacts[2].declared, record=altered(world.contacts[2].record, proof=made[0].record.proof)),
            Reason.PROOF,
        ),
        (world.by_removed.declared, Reason.REMOVED),
    ]
    found = reasons_for(world, [one for one, _ in bad], frozenset({reported.record.nullifier}))
    assert found == [reason for _, reason in bad]
    assert set(found) == set(Reason) - {Reason.DOUBTFUL}


def test_a_list_of_bad_signatures_is_not_searched_to_its_end() -> None:
    """So many are named; a part of the rest that fails is doubtful as a whole, and what holds stays fine."""
    world = world_of("arkworks")
    good, worse = world.contacts[0].declared.record, altered(world.contacts[1].record, day=DAY - 1)
    many = [worse] * 32 + [good] * 32
    found = declaration.signature_reasons(world.curve, world.random, world.rules, many)
    assert [found.count(one) for one in (Reason.PARTIAL, Reason.DOUBTFUL, Reason.FINE)] == [8, 24, 32]


def test_every_reason_has_words_and_a_byte() -> None:
    assert len({reason.text for reason in Reason}) == len(Reason)
    assert bytes(Reason) == bytes(range(len(Reason)))


@pytest.mark.parametrize("day", [DAY - 14, DAY])
def test_days_within_the_rules_are_fine(world: World, day: int) -> None:
    assert reasons_for(world, [world.contact(world.alice, world.random(32), day=day).declared]) == [Reason.FINE]


def test_what_the_other_side_reported_can_be_reported(world: World) -> None:
    """Declaring first silences nobody: only a nullifier that comes again is refused."""
    both = frozenset({world.others[0].record.nullifier})
    assert reasons_for(world, [world.contacts[0].declared], both) == [Reason.FINE]
    assert reasons_for(world, [world.others[0].declared], both) == [Reason.REPORTED]


def test_a_list_is_neither_empty_nor_too_long(world: World) -> None:
    for contacts in ((), (world.contacts[0].declared,) * 101):
        with pytest.raises(Refused, match="a report has 1 to 100 contacts"):
            reasons_for(world, contacts)
    with pytest.raises(Refused, match="no contact to declare"):
        world.report_of(world.body_of())


# --- ownership ---


def _own(world: World, *contacts: DeclaredContact) -> None:
    """The check of ownership by itself, of a report that alice proves as well as she can."""
    report = world.report_of(world.body_of(*contacts))
    digest = declaration.digest_of(report.body, world.parameters_hash)
    issuer = world.users.key
    declaration.check_ownership(world.curve, world.random, issuer, contacts, digest, report.ownership)


def test_ownership_of_ones_own_contacts_holds(world: World) -> None:
    _own(world, *(one.declared for one in world.contacts))
    _own(world, world.contacts[0].declared)


def test_ownership_of_nothing_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="without contacts proves nothing"):
        declaration.check_ownership(world.curve, world.random, world.users.key, (), bytes(32), world.report.ownership)


def test_ownership_with_a_ccm_or_nullifier_twice_is_refused(world: World) -> None:
    """By itself, too: two contacts over one base prove only a sum, and a later caller may forget to look first."""
    one, peer = world.contacts[0].declared, world.others[0].declared
    with pytest.raises(Refused, match="stands in the list twice"):
        _own(world, one, one)
    with pytest.raises(Refused, match="stands in the list twice"):
        _own(world, one, peer)
    again = world.contacts[1].declared
    borrowed = altered(again, record=altered(again.record, nullifier=one.record.nullifier))
    with pytest.raises(Refused, match="stands in the list twice"):
        _own(world, one, borrowed)


def test_ownership_that_adds_up_to_nothing_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """J* = 0 or N* = 0 would be owned by everybody. No weights that give it can be found: they are set here."""
    monkeypatch.setattr(declaration, "_weights", lambda *_: [0])
    with pytest.raises(Malformed, match="combined nullifier is the identity"):
        declaration.check_ownership(
            world.curve,
            world.random,
            world.users.key,
            world.body.contacts[:1],
            bytes(32),
            world.report.ownership,
        )


def test_weights_depend_on_everything_and_fit_128_bits(world: World) -> None:
    first = ownership = world.report.ownership
    parts = ownership.a, ownership.b, first.d
    one = declaration._weights(world.users.key, parts, bytes(32), 4)
    others = [
        declaration._weights(world.other_users.key, parts, bytes(32), 4),
        declaration._weights(world.users.key, parts, b"\1" * 32, 4),
        declaration._weights(world.users.key, (parts[1], parts[0], parts[2]), bytes(32), 4),
        declaration._weights(world.users.key, (parts[0], parts[1], parts[1]), bytes(32), 4),
    ]
    flat = [weight for weights in (one, *others) for weight in weights]
    assert len(set(flat)) == len(flat) == 20
    assert all(weight < 2**128 for weight in flat)
    assert max(flat).bit_length() > 120


def test_a_good_report_is_taken(world: World) -> None:
    declare(world, world.body_of(*(one.declared for one in world.contacts)))
    receive(world, world.sealed(world.report))


# --- the seal; nothing here depends on the maker ---

FAST = world_of("arkworks")


def test_a_sealed_report_opens_again() -> None:
    sealed = FAST.sealed(FAST.report)
    assert declaration.unseal(FAST.seal, sealed) == FAST.report
    assert sealed.parameters == FAST.parameters_hash


def test_sealed_reports_have_few_sizes() -> None:
    small = FAST.sealed(FAST.report)
    other = FAST.sealed(FAST.report_of(FAST.body_of(FAST.contacts[0].declared)))
    large = FAST.sealed(altered(FAST.report, body=bytes(20_000)))
    assert len(small.sealed) == len(other.sealed) < len(large.sealed)
    assert small.sealed != other.sealed


def test_a_report_too_large_for_every_size_is_refused() -> None:
    largest = messages.REPORT_CLASSES[-1]
    with pytest.raises(Refused, match="too many contacts for one report"):
        FAST.sealed(altered(FAST.report, body=bytes(largest)))


@pytest.mark.parametrize("size", [0, 95, 97])
def test_a_seal_key_is_made_from_96_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="96 bytes"):
        declaration.read_seal_secret(bytes(size))


# --- the receipt ---


def test_a_receipt_has_one_size_whatever_it_says() -> None:
    """The longest refusal that a report of the smallest class can get fits."""
    sealed = FAST.sealed(FAST.report)
    size = declaration.receipt_size(sealed)
    refusal = Receipt(
        accepted=False,
        problem="p" * 32,
        text="t" * 300,
        reasons=bytes(40),
        reference="r" * 32,
        days=tuple(range(DAY, DAY + 64)),
    )
    key = FAST.body.reply_key
    for receipt in (Receipt(accepted=True), refusal):
        answer = declaration.seal_receipt(FAST.random, receipt, key, size)
        assert len(answer) == size == messages.REPORT_CLASSES[0] // messages.RECEIPT_SHARE + 12 + 16
        assert declaration.open_receipt(answer, key) == receipt


def test_two_receipts_under_one_reply_key_tell_nothing_of_each_other() -> None:
    """As of an authority that was put back to an older state, and answers the same report again."""
    key = FAST.body.reply_key
    size = declaration.receipt_size(FAST.sealed(FAST.report))
    receipts = (Receipt(accepted=True, reference="one"), Receipt(accepted=True, reference="two"))
    one, other = (declaration.seal_receipt(FAST.random, receipt, key, size) for receipt in receipts)
    assert one[:12] != other[:12]
    equal = sum(left == right for left, right in zip(one, other, strict=True))
    assert equal < size / 16, "under one nonce, all zeros of the padding would be equal"


@pytest.mark.parametrize("size", [0, 1120, 5000, 2**14])
def test_what_is_no_sealed_report_gets_no_receipt(size: int) -> None:
    """Anybody may send any bytes as a report: the size of the answer must not come out negative."""
    with pytest.raises(Malformed, match="size classes"):
        declaration.receipt_size(messages.SealedReport(parameters=bytes(32), sealed=bytes(size)))


@pytest.mark.parametrize("answer", [b"", bytes(11), bytes(12), bytes(27), bytes(28), bytes(1052)])
def test_what_is_no_receipt_is_malformed(answer: bytes) -> None:
    with pytest.raises(Malformed, match="not the authority's"):
        declaration.open_receipt(answer, FAST.body.reply_key)


# --- codes ---


@given(st.binary(min_size=10, max_size=10))
def test_a_code_is_typed_in_many_ways(drawn: bytes) -> None:
    code = declaration.new_code(lambda size: drawn)
    assert [len(group) for group in code.split("-")] == [4] * 4
    plain = code.replace("-", "")
    for typed in (code, plain, code.lower(), code.replace("-", " "), f"  {code}\n", "-".join(plain)):
        assert declaration.normal_code(typed) == plain
    mistaken = code.replace("O", "0").replace("I", "1").replace("B", "8")
    assert declaration.normal_code(mistaken) == plain


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_a_code_or_malformed(typed: str) -> None:
    try:
        code = declaration.normal_code(typed)
    except Malformed as error:
        text = error.text
    else:
        assert declaration.normal_code(code) == code
        return
    assert text.startswith("a code is 16 letters and digits")


@pytest.mark.parametrize("typed", ["", "QRCD-EFGH-IJKL-234", "QRCD-EFGH-IJKL-23456", "9BCD-EFGH-IJKL-2345", "Ä" * 16])
def test_what_is_no_code_is_malformed(typed: str) -> None:
    with pytest.raises(Malformed, match="check it and type it again") as refusal:
        declaration.normal_code(typed)
    assert not typed or typed not in refusal.value.text


def test_two_codes_differ() -> None:
    assert declaration.new_code(FAST.random) != declaration.new_code(FAST.random)
