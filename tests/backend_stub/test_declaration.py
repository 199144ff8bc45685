"""Declarations: codes, the checks, and one answer for one report."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from backend_stub.authority import groups, report
from backend_stub.keyring import keys
from protocol import declaration, messages
from protocol.declaration import Reason
from protocol.encounter import token_of
from protocol.errors import Malformed, NotMine
from tests.backend_stub.support import Declaring, Encounter
from tests.support import found_in

if TYPE_CHECKING:
    from protocol.messages import ContactRecord
    from tests.backend_stub.support import ManualClock, User, World


@pytest.fixture
async def users(there: World) -> tuple[User, User]:
    return await there.pair()


@pytest.fixture
async def contacts(there: World, users: tuple[User, User]) -> list[tuple[Encounter, ContactRecord]]:
    """Three contacts of the first user."""
    return list(await asyncio.gather(*(there.meet(*users) for _ in range(3))))


Contacts = list[tuple[Encounter, "ContactRecord"]]


async def test_a_good_report_is_accepted(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    receipt = await there.declare(users[0], await there.code(), contacts)
    assert receipt.accepted
    assert not receipt.reasons
    assert receipt.days == (there.clock.today,)


async def test_codes_may_be_typed_carelessly(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    code = (await there.code()).lower().replace("-", " ").replace("o", "0").replace("i", "1")
    assert (await there.declare(users[0], code, contacts)).accepted


async def test_an_unknown_code(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    for code in ("AAAA-AAAA-AAAA-AAAA", "what"):
        receipt = await there.declare(users[0], code, contacts)
        assert (receipt.accepted, receipt.problem) == (False, "code-unknown")


async def test_a_dummy_is_answered_like_a_refusal_and_leaves_nothing(
    there: World, users: tuple[User, User], contacts: Contacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = await there.trusted()
    made, reply_key = declaration.dummy(secrets.token_bytes)
    sealed = declaration.seal(made, trusted.parameters.seal_key, trusted.head.hash)
    refused = await there.report(users[0], "AAAA-AAAA-AAAA-AAAA", contacts)
    assert len(messages.encode(sealed)) == len(messages.encode(refused.sealed))
    monkeypatch.setattr(report, "_claim", None)  # nothing is looked up, counted or written
    answer = await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, messages.encode(sealed))
    monkeypatch.undo()
    assert not declaration.open_receipt(answer, reply_key).accepted
    assert len(answer) == len(await there.send_report(refused))


async def test_a_code_is_spent_once(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    code = await there.code()
    assert (await there.declare(users[0], code, contacts[:1])).accepted
    assert (await there.declare(users[0], code, contacts[1:])).problem == "code-spent"


async def test_a_code_expires(there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts) -> None:
    code = await there.code()
    clock.pass_by(days=2, seconds=1)
    assert (await there.declare(users[0], code, contacts)).problem == "code-expired"


async def test_ten_attempts_at_a_code(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    code = await there.code()
    bad = [(Encounter(), record) for _, record in contacts]
    for _ in range(report.ATTEMPTS):
        assert (await there.declare(users[0], code, bad)).problem == "contacts"
    assert (await there.declare(users[0], code, contacts)).problem == "code-attempts"
    assert (await there.declare(users[0], await there.code(), contacts)).accepted, "another code is not locked"


async def test_of_concurrent_attempts_no_more_than_ten_are_checked(
    there: World, users: tuple[User, User], contacts: Contacts
) -> None:
    code = await there.code()
    bad = [(Encounter(), record) for _, record in contacts]
    receipts = await asyncio.gather(*(there.declare(users[0], code, bad) for _ in range(report.ATTEMPTS + 4)))
    problems = [receipt.problem for receipt in receipts]
    assert (problems.count("contacts"), problems.count("code-attempts")) == (report.ATTEMPTS, 4)


async def test_the_same_report_gets_the_same_answer(
    there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts
) -> None:
    """Also days later, through other proxies, and whether it was accepted or not: a reply key seals one answer."""
    bad = [(Encounter(), record) for _, record in contacts]
    code = await there.code()
    refused, accepted = await there.report(users[0], code, bad), await there.report(users[0], code, contacts)
    first = [await there.send_report(one) for one in (refused, accepted)]
    clock.pass_by(days=4)
    for proxy in there.proxies:
        assert [await there.send_report(one, proxy) for one in (refused, accepted)] == first
    assert [
        declaration.open_receipt(answer, one.reply_key).accepted
        for answer, one in zip(first, (refused, accepted), strict=True)
    ] == [False, True]


async def test_repeats_of_a_refused_report_do_not_use_up_the_code(
    there: World, users: tuple[User, User], contacts: Contacts
) -> None:
    code = await there.code()
    refused = await there.report(users[0], code, [(Encounter(), record) for _, record in contacts])
    await asyncio.gather(*(there.send_report(refused) for _ in range(report.ATTEMPTS + 2)))
    assert (await there.declare(users[0], code, contacts)).accepted


async def test_concurrent_repeats_agree(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    one = await there.report(users[0], await there.code(), contacts)
    answers = await asyncio.gather(*(there.send_report(one, proxy) for proxy in there.proxies * 3))
    assert len(set(answers)) == 1
    assert declaration.open_receipt(answers[0], one.reply_key).accepted


async def test_of_two_reports_of_the_same_contacts_at_once_one_is_accepted(
    there: World, users: tuple[User, User], contacts: Contacts
) -> None:
    codes = [await there.code() for _ in range(4)]
    receipts = await asyncio.gather(*(there.declare(users[0], code, contacts) for code in codes))
    assert sum(receipt.accepted for receipt in receipts) == 1
    assert all(set(receipt.reasons) <= {Reason.REPORTED} for receipt in receipts)


async def test_one_code_used_twice_at_once(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    code = await there.code()
    receipts = await asyncio.gather(*(there.declare(users[0], code, [one]) for one in contacts))
    assert sorted(receipt.problem for receipt in receipts) == ["", "code-spent", "code-spent"]


async def test_what_was_reported_is_not_reported_again(
    there: World, users: tuple[User, User], contacts: Contacts
) -> None:
    await there.declare(users[0], await there.code(), contacts[:1])
    code = await there.code()
    receipt = await there.declare(users[0], code, contacts)
    assert receipt.problem == "contacts"
    assert list(receipt.reasons) == [Reason.REPORTED, Reason.FINE, Reason.FINE]
    assert (await there.declare(users[0], code, contacts[1:])).accepted, "a refused report does not spend the code"


async def test_the_other_side_may_declare_too(there: World, users: tuple[User, User]) -> None:
    left, right = users
    met, record = await there.meet(left, right)
    of_right = await there.submit(right, met)
    assert of_right is not None
    assert (await there.declare(left, await there.code(), [(met, record)], role=0)).accepted
    assert (await there.declare(right, await there.code(), [(met, of_right)], role=1)).accepted
    await there.publish()
    (batch,) = await there.publications()
    assert len(found_in(batch, {token_of(met.secret, 0), token_of(met.secret, 1)})) == 2


async def test_somebody_elses_records_are_refused(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    left, right = users
    met, _ = contacts[0]
    of_right = await there.submit(right, met)
    assert of_right is not None
    assert (await there.declare(right, await there.code(), contacts)).problem == "ownership"
    mixed = [contacts[1], (met, of_right)]
    assert (await there.declare(left, await there.code(), mixed)).problem == "ownership"


async def test_altered_records_are_named(
    there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts
) -> None:
    (met, record), fine, _ = contacts
    altered = msgspec.structs.replace(record, day=clock.today - 1)
    receipt = await there.declare(users[0], await there.code(), [(met, altered), fine])
    assert receipt.problem == "contacts"
    assert [reason != 0 for reason in receipt.reasons] == [True, False]


async def test_a_long_list_is_searched_for_bad_signatures_no_further_than_a_short_one(
    there: World,
    clock: ManualClock,
    users: tuple[User, User],
    contacts: Contacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "AT_ONCE", 1)
    monkeypatch.setattr(declaration, "MOST_UNSIGNED", 1)
    altered = [(met, msgspec.structs.replace(record, day=clock.today - 1)) for met, record in contacts]
    receipt = await there.declare(users[0], await there.code(), altered)
    assert list(receipt.reasons) == [Reason.PARTIAL, Reason.DOUBTFUL, Reason.DOUBTFUL]


async def test_a_bad_role_is_named(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    receipt = await there.declare(users[0], await there.code(), contacts, role=2)
    assert set(receipt.reasons) == {Reason.ROLE}


async def test_contacts_older_than_the_retention_are_refused(
    there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts
) -> None:
    clock.pass_by(days=14)
    code = await there.code()
    assert (await there.declare(users[0], code, contacts[:1])).accepted
    clock.pass_by(days=1)
    receipt = await there.declare(users[0], await there.code(), contacts[1:])
    assert set(receipt.reasons) == {Reason.DAY}


async def test_days_that_are_not_infectious_are_accepted_and_not_published(
    there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts
) -> None:
    clock.pass_by(days=4)
    late = await there.meet(*users)
    receipt = await there.declare(users[0], await there.code(onset=clock.today), [*contacts, late])
    assert receipt.accepted
    assert receipt.days == (clock.today,)
    await there.publish()
    (batch,) = await there.publications()
    assert [(day.day, day.level) for day in batch.days] == [(clock.today, 2)]


async def test_a_report_without_contacts_is_refused(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    made = await there.report(users[0], await there.code(), contacts[:1])
    opened = await _opened(there, made)
    body = msgspec.structs.replace(messages.decode(messages.ReportBody, opened.body), contacts=())
    empty = msgspec.structs.replace(opened, body=messages.encode(body))
    assert (await _send(there, empty, made.reply_key)).problem == "too-many"


async def test_an_unknown_issuer_is_said_so(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    made = await there.report(users[0], await there.code(), contacts[:1])
    opened = await _opened(there, made)
    body = msgspec.structs.replace(messages.decode(messages.ReportBody, opened.body), issuer=9)
    other = msgspec.structs.replace(opened, body=messages.encode(body))
    assert (await _send(there, other, made.reply_key)).problem == "ownership"


async def _opened(there: World, made: Declaring) -> messages.Report:
    async with there.office() as office:
        seal_key = (await office.current()).trusted.parameters.seal_key
        return declaration.unseal(keys.read_seal(office.folder, seal_key), made.sealed)


async def _send(there: World, made: messages.Report, reply_key: bytes) -> messages.Receipt:
    trusted = await there.trusted()
    sealed = declaration.seal(made, trusted.parameters.seal_key, trusted.head.hash)
    return declaration.open_receipt(await there.send_report(Declaring(sealed, reply_key)), reply_key)


async def test_what_a_removed_proxy_signed_is_refused(there: World, users: tuple[User, User]) -> None:
    met, by_first = await there.meet(*users)
    by_second = await there.submit(users[0], met, proxy=there.proxies[1])
    assert by_second is not None
    async with there.office() as office:
        await groups.remove(office, "group-1-1")
    receipt = await there.declare(users[0], await there.code(), [(met, by_first)])
    assert list(receipt.reasons) == [Reason.REMOVED]
    assert (await there.declare(users[0], await there.code(), [(met, by_second)])).accepted
    places = {group.name: group.proxies for group in (await there.trusted()).parameters.groups}
    assert places == {"group-1": (), "group-2": (there.proxies[1],)}


async def test_a_report_by_earlier_parameters_is_taken_until_they_run_out(
    there: World, clock: ManualClock, users: tuple[User, User], contacts: Contacts
) -> None:
    made = await there.report(users[0], await there.code(valid_days=40), contacts[:1])
    later = await there.report(users[0], await there.code(valid_days=40), contacts[1:])
    async with there.office() as office:
        await groups.remove(office, "group-2-1")
    assert declaration.open_receipt(await there.send_report(made), made.reply_key).accepted
    clock.pass_by(days=31)
    await there.follow(2)
    with pytest.raises(NotMine, match="sync"):
        await there.send_report(later)


async def test_a_report_that_cannot_be_opened(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    made = await there.report(users[0], await there.code(), contacts)
    cut = msgspec.structs.replace(made.sealed, sealed=made.sealed.sealed[:-1])
    other = msgspec.structs.replace(made.sealed, parameters=secrets.token_bytes(32))
    empty = msgspec.structs.replace(made.sealed, sealed=b"")
    for sealed in (cut, other, empty):
        with pytest.raises(NotMine):
            await there.send_report(Declaring(sealed, made.reply_key))
    with pytest.raises(Malformed):
        await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, b"nothing")


async def test_a_dummy_looks_the_same_from_outside(there: World, users: tuple[User, User], contacts: Contacts) -> None:
    """One size, and an answer that is not sooner there than a real one."""
    real = await there.report(users[0], await there.code(), contacts)
    dummy = await there.report(users[0], declaration.new_code(secrets.token_bytes), contacts)
    answers = [await there.send_report(one) for one in (real, dummy)]
    assert len(set(map(len, answers))) == 1
    assert declaration.open_receipt(answers[1], dummy.reply_key).problem == "code-unknown"
