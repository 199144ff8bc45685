"""Declaring, through proxies that lie: only the authority's own answer, which is sealed, counts."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from msgspec.structs import replace as replaced

from agent.kept import State
from agent.report import Reporter, ReportRefused, StillChecked, declarable
from protocol import declaration, messages
from protocol.errors import CodeRefused, KeyChanged, NotMine, Refused, Unreachable
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met, world
from tests.agent.servers import answering, problem, serving
from tests.agent.test_cli import start

if TYPE_CHECKING:
    from agent.store import Store
    from tests.agent.servers import Server

CODE = "ABCD-EFGH-IJKL-2345"
DAY = 20_000


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def reporter(store: Store, server: Server, clock: VirtualClock) -> Reporter:
    """Of a device with three signed contacts, whose only proxy is the test's server."""
    joined.join(store, joined.link_of([server.url]))
    for secret, made in zip(world().secrets, world().contacts, strict=True):
        store.keep_encounters([replace(met(), secret=secret, state=State.WAITING)])
        store.settle(store.encounters()[-1], State.SIGNED, record=messages.encode(made.record))
    chance = random.SystemRandom()
    return Reporter(world().curve, chance, store, clock)


def authority_says(server: Server, receipt: messages.Receipt) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        sealed = messages.decode(messages.SealedReport, await request.read())
        report = declaration.unseal(world().seal, sealed)
        body = messages.decode(messages.ReportBody, report.body)
        size = declaration.receipt_size(sealed)
        return web.Response(body=declaration.seal_receipt(world().random, receipt, body.reply_key, size))

    server.answer = answer


def told(store: Store) -> list[messages.Receipt]:
    """The answers that are kept."""
    return [messages.decode(messages.Receipt, one.receipt) for one in store.reports() if one.receipt]


# --- what is declared ---


def test_only_near_signed_and_undeclared_contacts_are_declared(store: Store) -> None:
    far = met("far", attenuation=90.0)
    store.keep_encounters([replace(one, state=State.WAITING) for one in (met("near"), far, met("unsigned"))])
    for one in store.encounters():
        if one.secret != met("unsigned").secret:
            store.settle(one, State.SIGNED, record=b"record")
    found = declarable(store, world().parameters)
    assert {day: [one.secret for one in contacts] for day, contacts in found.items()} == {DAY: [met("near").secret]}


async def test_nothing_but_the_chosen_days_leaves(store: Store, reporter: Reporter, server: Server) -> None:
    with pytest.raises(Refused, match="other days"):
        await reporter.make(CODE, [DAY - 1])
    assert len((await reporter.make(CODE, [DAY])).encounters) == 3
    assert server.bodies == []


# --- the authority's answer ---


async def test_an_accepted_report(store: Store, reporter: Reporter, server: Server) -> None:
    authority_says(server, messages.Receipt(accepted=True, reference="r", days=(DAY,)))
    stored = await reporter.make(CODE, [DAY])
    assert (await reporter.send(stored)).reference == "r"
    assert all(one.declared for one in store.encounters())
    assert reporter.outstanding(CODE) is None
    assert [report.receipt is not None for report in store.reports()] == [True]


async def test_a_code_that_the_authority_refuses(store: Store, reporter: Reporter, server: Server) -> None:
    authority_says(server, messages.Receipt(accepted=False, problem="code-spent", text="used"))
    with pytest.raises(CodeRefused, match="used"):
        await reporter.send(await reporter.make(CODE, [DAY]))
    (kept,) = told(store)
    assert (kept.accepted, kept.problem) == (False, "code-spent"), "`spot status` still tells it"
    assert not any(one.declared for one in store.encounters())


async def test_contacts_that_the_authority_refuses(store: Store, reporter: Reporter, server: Server) -> None:
    stored = await reporter.make(CODE, [DAY])
    reasons = bytes([declaration.Reason.FINE, declaration.Reason.PROOF, 250])
    authority_says(server, messages.Receipt(accepted=False, problem="contacts", text="one is wrong", reasons=reasons))
    with pytest.raises(ReportRefused) as raised:
        await reporter.send(stored)
    assert [refusal.encounter.id for refusal in raised.value.refusals] == [stored.encounters[1]]
    assert [one.id for one in store.encounters(state=State.REFUSED)] == [stored.encounters[1]]
    assert [one.reasons for one in told(store)] == [reasons], "`spot status` still tells it"


async def test_contacts_of_a_removed_proxy_are_asked_for_again(
    store: Store, reporter: Reporter, server: Server
) -> None:
    stored = await reporter.make(CODE, [DAY])
    reasons = bytes([declaration.Reason.FINE, declaration.Reason.REMOVED])
    authority_says(server, messages.Receipt(accepted=False, problem="contacts", text="one is", reasons=reasons))
    with pytest.raises(ReportRefused, match="1 of them are signed anew"):
        await reporter.send(stored)
    (again,) = store.encounters(state=State.PENDING)
    assert again.id == stored.encounters[1]
    assert "removed" in again.problem
    assert again.record is not None, "it was signed before, so it is asked for however old it is"
    store.settle(again, State.PENDING, due=again.due)
    assert store.encounters(state=State.PENDING)[0].record == again.record
    store.settle(again, State.SIGNED, record=b"another")
    assert [one.record for one in store.encounters() if one.id == again.id] == [b"another"]


async def test_a_report_that_is_still_checked_is_kept_and_sent_again(
    store: Store, reporter: Reporter, server: Server
) -> None:
    stored = await reporter.make(CODE, [DAY])
    authority_says(server, declaration.CHECKING)
    with pytest.raises(StillChecked, match="by the same command"):
        await reporter.send(stored)
    assert len(server.bodies) == 1, "no other proxy is asked"
    assert reporter.outstanding(CODE) == reporter.queued() == stored
    assert not any(one.declared for one in store.encounters())
    authority_says(server, messages.Receipt(accepted=True, reference="r"))
    assert (await reporter.send(stored)).reference == "r"


async def test_declare_now_asks_again_until_it_is_checked(store: Store, reporter: Reporter, server: Server) -> None:
    stored = await reporter.make(CODE, [DAY])
    authority_says(server, declaration.CHECKING)
    process = start(store.folder, "declare", CODE, "--now", "--json")
    while not server.bodies:
        assert process.poll() is None
        await asyncio.sleep(0.05)
    authority_says(server, messages.Receipt(accepted=True, reference="r"))
    output, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output)["reference"] == "r"
    assert {declaration_in(body) for body in server.bodies} == {stored.report}
    assert len(server.bodies) == 2


def declaration_in(body: bytes) -> bytes:
    return messages.encode(declaration.unseal(world().seal, messages.decode(messages.SealedReport, body)))


# --- what anybody else says ---


@pytest.mark.parametrize("slug", ["code-refused", "refused", "malformed", "not-mine", "misuse", "key-changed"])
async def test_a_proxys_word_loses_no_report(store: Store, reporter: Reporter, server: Server, slug: str) -> None:
    stored = await reporter.make(CODE, [DAY])
    server.answer = problem(403, {"type": f"urn:spot:{slug}", "detail": "no"})
    with pytest.raises(Unreachable, match="run the same command again"):
        await reporter.send(stored)
    assert reporter.outstanding(CODE) == stored
    assert len(server.bodies) == 3
    authority_says(server, messages.Receipt(accepted=True))
    await reporter.send(stored)
    assert all(one.declared for one in store.encounters())


@pytest.mark.parametrize("body", [b"", b"garbage", bytes(1024)])
async def test_an_answer_that_is_not_the_authoritys(
    store: Store, reporter: Reporter, server: Server, body: bytes
) -> None:
    stored = await reporter.make(CODE, [DAY])
    server.answer = answering(web.Response(body=body))
    with pytest.raises(Unreachable, match="run the same command again"):
        await reporter.send(stored)
    assert reporter.outstanding(CODE) == stored


async def test_repeating_repeats_the_same_report(reporter: Reporter, server: Server) -> None:
    stored = await reporter.make(CODE, [DAY])
    server.answer = problem(503, {"type": "urn:spot:unreachable", "detail": "later"})
    with pytest.raises(Unreachable, match="later"):
        await reporter.send(stored)
    assert {declaration_in(body) for body in server.bodies} == {stored.report}
    assert len(set(server.bodies)) == 3, "sealed afresh"


async def test_a_report_by_former_parameters_is_made_anew(store: Store, reporter: Reporter, server: Server) -> None:
    stored = await reporter.make(CODE, [DAY])
    joined.move_on(store)
    server.answer = problem(409, {"type": "urn:spot:not-mine", "detail": "sync, then declare again"})
    with pytest.raises(NotMine, match="declare again"):
        await reporter.send(stored)
    assert reporter.outstanding(CODE) is None


@pytest.mark.parametrize("keys", [1, 2])
async def test_a_report_outlives_a_new_seal_key(store: Store, reporter: Reporter, server: Server, keys: int) -> None:
    """The answer was lost, and the authority has another seal key when it is asked for again."""
    stored = await reporter.make(CODE, [DAY])
    for number in range(keys):
        joined.move_on(store, seal_key=declaration.read_seal_secret(bytes([number]) * 96).public)
    authority_says(server, messages.Receipt(accepted=True, reference="r"))
    outstanding = reporter.outstanding(CODE)
    assert outstanding == stored
    assert (await reporter.send(outstanding)).reference == "r"
    assert all(one.declared for one in store.encounters())


async def test_not_mine_of_one_proxy_loses_no_report_by_former_parameters(
    store: Store, reporter: Reporter, server: Server
) -> None:
    async with serving() as lying:
        lying.answer = problem(409, {"type": "urn:spot:not-mine", "detail": "sync, then declare again"})
        server.answer = problem(503, {"type": "urn:spot:unreachable", "detail": "later"})
        stored = await reporter.make(CODE, [DAY])
        first, *others = world().parameters.groups
        given = [replaced(first, proxies=(lying.url,)), *(replaced(one, proxies=(server.url,)) for one in others)]
        joined.move_on(store, groups=tuple(given))
        for _ in range(8):
            with pytest.raises(Unreachable, match="run the same command again"):
                await reporter.send(stored)
        assert lying.bodies
        assert reporter.outstanding(CODE) == stored


async def test_not_mine_of_one_proxy_is_enough_once_the_parameters_have_run_out(
    store: Store, reporter: Reporter, server: Server, clock: VirtualClock
) -> None:
    """Where there is one group only, nobody else could be asked."""
    stored = await reporter.make(CODE, [DAY])
    (first, *_) = world().parameters.groups
    only, later = replaced(first, proxies=(server.url,)), int(world().parameters.valid_until) + 86400
    joined.move_on(store, groups=(only,), valid_until=later)
    server.answer = problem(409, {"type": "urn:spot:not-mine", "detail": "sync, then declare again"})
    with pytest.raises(Unreachable):
        await reporter.send(stored)
    clock.set(later - 1.0)
    with pytest.raises(NotMine, match="declare again"):
        await reporter.send(stored)
    assert reporter.outstanding(CODE) is None


async def test_nothing_is_declared_by_parameters_that_have_run_out(
    reporter: Reporter, server: Server, clock: VirtualClock
) -> None:
    """Whoever withholds new ones could have it sealed to a key that was stolen since."""
    stored = await reporter.make(CODE, [DAY])
    clock.set(world().parameters.valid_until + 1.0)
    with pytest.raises(KeyChanged, match="run out"):
        await reporter.make(CODE, [DAY])
    with pytest.raises(KeyChanged, match="run out"):
        await reporter.send(stored)
    assert reporter.outstanding(CODE) == stored
    assert server.bodies == []


async def test_too_many_contacts(store: Store, reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = world().parameters.limits
    assert limits.contacts == 1000
    monkeypatch.setattr("agent.report.declarable", lambda *_: {DAY: store.encounters() * 334})
    with pytest.raises(Refused, match="at most 1000"):
        await reporter.make(CODE, [DAY])
