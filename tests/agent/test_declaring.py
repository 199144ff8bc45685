"""Reports that wait for their moment, and the dummies that go out when there is none."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.declaring import TRIED, WITHOUT_COVER, Tried
from agent.kept import State
from agent.report import STICKY, Reporter
from agent.sync import Progress, Sync
from protocol import declaration, messages
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met, world
from tests.agent.servers import problem

if TYPE_CHECKING:
    from agent.store import Store
    from agent.sync import Line
    from tests.agent.servers import Server

CODE = "ABCD-EFGH-IJKL-2345"
DAY = 20_000
GAP = 14_400


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def line(store: Store, server: Server, clock: VirtualClock) -> Line:
    """Of a device with three signed contacts, whose only proxy is the test's server."""
    joined.join(store, joined.link_of([server.url], declaration_gap=GAP))
    for secret, made in zip(world().secrets, world().contacts, strict=True):
        store.keep_encounters([replace(met(), secret=secret, state=State.WAITING)])
        store.settle(store.encounters()[-1], State.SIGNED, record=messages.encode(made.record))
    return Sync(world().curve, random.SystemRandom(), store, clock).lines[2]


@pytest.fixture
def reporter(store: Store, clock: VirtualClock) -> Reporter:
    return Reporter(world().curve, random.SystemRandom(), store, clock)


def answering(server: Server, receipt: messages.Receipt) -> list[messages.ReportBody]:
    """Have the server open what comes and answer this; returns what came."""
    opened = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sealed = messages.decode(messages.SealedReport, await request.read())
        body = messages.decode(messages.ReportBody, declaration.unseal(world().seal, sealed).body)
        opened.append(body)
        size = declaration.receipt_size(sealed)
        return web.Response(body=declaration.seal_receipt(world().random, receipt, body.reply_key, size))

    server.answer = answer
    return opened


async def at_the_next_moment(line: Line, clock: VirtualClock) -> Progress:
    progress = Progress()
    if not line.next_at():
        await line.act(progress)
    clock.set(line.next_at())
    await line.act(progress)
    return progress


async def test_a_report_goes_out_in_place_of_a_dummy(
    store: Store, line: Line, reporter: Reporter, server: Server, clock: VirtualClock
) -> None:
    opened = answering(server, messages.Receipt(accepted=True, reference="r"))
    assert (await at_the_next_moment(line, clock)).dummies == 1
    await reporter.make(CODE, [DAY])
    moment = line.next_at()
    await line.act(Progress())
    assert len(opened) == 1, "it waits for the moment that was drawn before it was there"
    assert line.next_at() == moment
    assert (await at_the_next_moment(line, clock)).dummies == 0
    assert all(one.declared for one in store.encounters())
    assert (await at_the_next_moment(line, clock)).dummies == 1
    assert [bool(one.code) for one in opened] == [False, True, False]
    assert len({len(body) for body in server.bodies}) == 1


async def test_what_failed_takes_the_next_moment_and_says_so(
    store: Store, line: Line, reporter: Reporter, server: Server, clock: VirtualClock
) -> None:
    server.answer = problem(503, {"type": "urn:spot:unreachable", "detail": "later"})
    await at_the_next_moment(line, clock)
    of_a_dummy = len(server.bodies)
    assert store.get(TRIED, Tried) is None
    await reporter.make(CODE, [DAY])
    await at_the_next_moment(line, clock)
    assert len(server.bodies) == 2 * of_a_dummy
    tried = store.get(TRIED, Tried)
    assert tried is not None
    assert "later" in tried.problem
    answering(server, messages.Receipt(accepted=False, problem="code-spent", text="used"))
    await at_the_next_moment(line, clock)
    assert [one.receipt is not None for one in store.reports()] == [True]
    assert store.get(TRIED, Tried) is None
    assert (await at_the_next_moment(line, clock)).dummies == 1


async def test_a_report_whose_parameters_are_over_is_not_sent(
    store: Store, line: Line, reporter: Reporter, server: Server, clock: VirtualClock
) -> None:
    """Its answer would have another size than a dummy's."""
    opened = answering(server, messages.Receipt(accepted=False, problem="dummy"))
    await reporter.make(CODE, [DAY])
    over = world().parameters.valid_until
    joined.move_on(store, valid_until=over + 86400)
    clock.set(over + 1.0)
    await at_the_next_moment(line, clock)
    assert [one.code for one in opened] == [""]
    assert reporter.queued() is None


async def test_dummies_have_the_size_that_a_report_would_have_and_keep_it(
    store: Store, reporter: Reporter, line: Line, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = messages.REPORT_CLASSES[:2]
    assert reporter.size() == small
    many = {DAY: store.encounters() * 40}
    monkeypatch.setattr("agent.report.declarable", lambda *_: many)
    assert reporter.size() == large
    many.clear()
    clock.set(NOON + STICKY - 1)
    assert reporter.size() == large
    clock.set(NOON + STICKY + 1)
    assert reporter.size() == small


async def test_without_cover_only_what_failed_is_sent_again(
    store: Store, server: Server, reporter: Reporter, line: Line, clock: VirtualClock
) -> None:
    joined.join(store, joined.link_of([server.url]))
    assert line.next_at() == float("inf")
    opened = answering(server, messages.Receipt(accepted=True))
    await reporter.make(CODE, [DAY])
    await at_the_next_moment(line, clock)
    assert len(opened) == 1
    assert clock.now() < NOON + 20 * WITHOUT_COVER
    assert line.next_at() == float("inf")
