"""Attack 14: declaring what must not be declared.

The attacker is a registered user, with or without a code, who makes any report with any records it got hold of. Codes
are random, of use once, and run out; the records must carry both signatures for their day, and one proof must show that
all their nullifiers have one owner.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from backend_stub.authority import report
from protocol import contact, declaration, hashing, messages
from protocol.declaration import Reason
from protocol.errors import SpotError

if TYPE_CHECKING:
    from protocol.messages import ContactRecord
    from tests.backend_stub.support import Encounter, User, World

    Contacts = list[tuple[Encounter, ContactRecord]]

GUESSES = 40


async def contacts_of(there: World, user: User, count: int = 3) -> Contacts:
    """True contacts of this user."""
    other = await there.user()
    return list(await asyncio.gather(*(there.meet(user, other) for _ in range(count))))


# --- codes ---


async def guess(there: World, attacker: User, mine: Contacts) -> bool:
    """Try codes. Whether one of them was good."""
    receipts = [await there.declare(attacker, declaration.new_code(secrets.token_bytes), mine) for _ in range(GUESSES)]
    return any(receipt.accepted for receipt in receipts)


async def test_guessing_codes_finds_none_and_locks_nobody_out(there: World) -> None:
    attacker, honest = await there.pair()
    code = await there.code()
    assert not await guess(there, attacker, await contacts_of(there, attacker, 1))
    assert (await there.declare(honest, code, await contacts_of(there, honest))).accepted


async def test_short_codes_would_be_guessed(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    attacker = await there.user()
    mine = await contacts_of(there, attacker, 1)
    honest = declaration.new_code
    # Three bits in place of eighty.
    monkeypatch.setattr(declaration, "new_code", lambda random: honest(lambda size: bytes([random(1)[0] & 7]) * size))
    await there.code()
    assert await guess(there, attacker, mine)


async def without_a_code(there: World) -> list[str]:
    """Declare true contacts without a code, with a wrong one, a used one, an old one. What was answered."""
    attacker, patient = await there.pair()
    mine = await contacts_of(there, attacker)
    used, old = await there.code(), await there.code(valid_days=1)
    assert (await there.declare(patient, used, await contacts_of(there, patient))).accepted
    there.clock.pass_by(days=1, seconds=1)
    codes = ["", "AAAA-AAAA-AAAA-AAAA", used, old]
    return [(await there.declare(attacker, code, mine)).problem for code in codes]


async def test_without_a_good_code_nothing_is_declared(there: World) -> None:
    # Without any code it is a dummy, and answered as such.
    assert await without_a_code(there) == ["dummy", "code-unknown", "code-spent", "code-expired"]


async def test_an_authority_that_does_not_look_at_the_code_would_take_an_old_one(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_check_code", lambda code, now: None)
    assert (await without_a_code(there))[-1] == ""


# --- records ---


async def declare_stolen(there: World, *, mixed: bool) -> messages.Receipt:
    """Declare the contacts of somebody else, who gave them away, secrets and all; or mix them with one's own."""
    thief, victim = await there.pair()
    stolen = await contacts_of(there, victim)
    own = await contacts_of(there, thief, 1) if mixed else []
    return await there.declare(thief, await there.code(), stolen + own)


@pytest.mark.parametrize("mixed", [False, True])
async def test_somebody_else_s_records_are_refused(there: World, mixed: bool) -> None:
    assert (await declare_stolen(there, mixed=mixed)).problem == "ownership"


@pytest.mark.parametrize("mixed", [False, True])
async def test_without_the_ownership_proof_they_would_be_taken(
    there: World, monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    monkeypatch.setattr(declaration, "check_ownership", lambda *_: None)
    assert (await declare_stolen(there, mixed=mixed)).accepted


async def twice(there: World) -> list[int]:
    """Declare one contact twice in one report, and once more in another. The reasons."""
    attacker = await there.user()
    mine = await contacts_of(there, attacker, 2)
    first = await there.declare(attacker, await there.code(), [mine[0], mine[0]])
    await there.declare(attacker, await there.code(), mine[:1])
    second = await there.declare(attacker, await there.code(), mine)
    return [*first.reasons, *second.reasons]


async def test_no_record_counts_twice(there: World) -> None:
    assert await twice(there) == [Reason.DUPLICATE_CCM, Reason.DUPLICATE_CCM, Reason.REPORTED, Reason.FINE]


async def launder(there: World, days: int) -> messages.Receipt:
    """Declare a true contact under another day than it was signed for."""
    attacker = await there.user()
    ((met, record),) = await contacts_of(there, attacker, 1)
    return await there.declare(attacker, await there.code(), [(met, replace(record, day=record.day + days))])


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_changed_day_is_refused(there: World, days: int) -> None:
    assert (await launder(there, days)).problem == "contacts"


async def test_if_no_signature_covered_the_day_it_could_be_changed(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = hashing.number
    # Days only: what tickets stand on is kept from test to test.
    monkeypatch.setattr(hashing, "number", lambda value: honest(0 if value > 10_000 else value))
    monkeypatch.setattr(
        contact, "quota_base", lambda curve, ticket: curve.hash_to_g1(hashing.QUOTA, repr(ticket).encode())
    )
    assert (await launder(there, -1)).accepted


# --- size and form ---


async def test_a_hundred_thousand_records_are_too_many(there: World) -> None:
    attacker = await there.user()
    mine = await contacts_of(there, attacker, 1)
    limit = (await there.trusted()).parameters.limits.contacts
    assert (await there.declare(attacker, await there.code(), mine * (limit + 1))).problem == "too-many"
    huge = 100_000 * 500
    trusted = await there.trusted()
    report_ = messages.Report(body=bytes(huge), ownership=mine[0][1].proof)
    with pytest.raises(SpotError):
        declaration.seal(report_, trusted.parameters.seal_key, trusted.head.hash)
    with pytest.raises(SpotError):
        await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, secrets.token_bytes(huge))
    assert (await there.declare(attacker, await there.code(), mine)).accepted, "and honest ones go on"


async def test_a_cut_or_reordered_report_does_not_open(there: World) -> None:
    """What a proxy can do to it on the way."""
    user = await there.user()
    made = (await there.report(user, await there.code(), await contacts_of(there, user))).sealed
    half = len(made.sealed) // 2
    for altered in (made.sealed[:-1], made.sealed[half:] + made.sealed[:half], made.sealed + b"\0"):
        body = messages.encode(replace(made, sealed=altered))
        with pytest.raises(SpotError):
            await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, body)
