"""Submitting through proxies that lie, fail or wait for the other side."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from msgspec.structs import replace as replaced

from agent import renewal
from agent.drawing import groups_for
from agent.kept import State
from agent.submitting import REFUSALS
from agent.sync import Sync
from protocol import chain, contact, encounter, hashing, messages, publication
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met, world
from tests.agent.servers import answering, problem, serving
from tests.support import OTHER_ISSUER

if TYPE_CHECKING:
    from agent.kept import Encounter
    from agent.store import Store
    from tests.agent.servers import Handler, Server


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def sync(store: Store, server: Server, clock: VirtualClock) -> Sync:
    """Of a device with one encounter to submit, whose only proxy is the test's server."""
    joined.join(store, joined.link_of([server.url]))
    store.keep_encounters([replace(met(), state=State.WAITING, due=NOON)])
    return Sync(world().curve, random.SystemRandom(), store, clock)


def the_one(store: Store) -> Encounter:
    (one,) = store.encounters()
    return one


def a_proxy(server: Server, *, day: int = 20_000, secret: bytes | None = None) -> None:
    """Answers as an honest proxy does, unless another day or another contact is asked for."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=404)
        submission = replaced(messages.decode(messages.Submission, await request.read()), day=day)
        here = world()
        asked = contact.nullifier_of(submission)
        signature = contact.sign_partially(here.curve, here.server, submission.ccm, day, asked)
        partial = messages.Partial(server=1, signature=signature)
        record = (
            here.contact(here.alice, secret).record
            if secret
            else contact.extend(
                here.random, here.proxies["north"].credential, "north", here.groups["north"].key, submission, partial
            )
        )
        return padded(messages.Answer(record=record))

    server.answer = answer


def refusing(slug: str, text: str) -> Handler:
    return answering(padded(messages.Answer(refusal=messages.Refusal(slug=slug, text=text))))


def padded(answer: messages.Answer) -> web.Response:
    return web.Response(body=messages.pad(messages.encode(answer), messages.ANSWER_SIZE))


async def test_a_signed_contact(store: Store, sync: Sync, server: Server) -> None:
    a_proxy(server)
    progress = await sync.step()
    assert (progress.submitted, progress.signed) == (1, 1)
    one = the_one(store)
    assert one.state is State.SIGNED
    record = messages.decode(messages.ContactRecord, one.record or b"")
    assert (record.ccm, record.day) == (encounter.ccm_of(one.secret), one.day)
    assert (await sync.step()).submitted == 0


async def test_pending_is_asked_again_with_backoff(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    server.answer = answering(padded(messages.Answer()))
    limits = world().parameters.limits
    longest = limits.retry_first
    for attempt in range(1, 7):
        assert (await sync.step()).pending == 1
        one = the_one(store)
        assert (one.state, one.attempts) == (State.PENDING, attempt)
        assert longest / 2 <= one.due - clock.now() <= longest
        assert (await sync.step()).submitted == 0
        longest = min(2 * longest, limits.retry_last)
        clock.set(one.due)


async def test_the_other_side_never_comes(store: Store, sync: Sync, server: Server, clock: VirtualClock) -> None:
    server.answer = answering(padded(messages.Answer()))
    await sync.step()
    clock.set(NOON + 5 * 86400)
    assert (await sync.step()).submitted == 0
    assert (the_one(store).state, the_one(store).problem) == (State.ENDED, "the other side never came")


@pytest.mark.parametrize("ahead", [86400.0, 6 * 86400.0, 400 * 86400.0])
async def test_a_clock_that_was_ahead_delays_nothing_once_it_is_right(
    store: Store, sync: Sync, server: Server, clock: VirtualClock, ahead: float
) -> None:
    """Neither looks at the chains nor contacts wait for what a clock said that was set for a moment."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return (
            web.Response(body=messages.encode(heads(store))) if request.method == "GET" else padded(messages.Answer())
        )

    server.answer = answer
    limits = world().parameters.limits
    store.keep_encounters([replace(met("new"), state=State.WAITING, due=NOON + limits.delay)])
    clock.set(NOON + ahead)
    await sync.step()
    assert all(one.state in (State.PENDING, State.ENDED) for one in store.encounters())
    clock.set(NOON + 60)
    server.bodies.clear()
    await sync.step()
    assert b"" in server.bodies, "the chains are looked at"
    for one in store.encounters():
        assert one.state is State.PENDING
        assert one.due <= clock.now() + limits.delay
    clock.set(NOON + 60 + limits.delay)
    assert (await sync.step()).pending == 2


async def test_of_what_the_clock_put_off_nothing_is_sent_at_once(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    """Contacts sent in one burst would be seen to be one device's."""
    ahead = NOON + 300 * 86400.0
    put_off = [replace(met(f"peer {number}"), state=State.WAITING, due=ahead) for number in range(50)]
    store.keep_encounters(put_off)
    clock.set(NOON + 1)
    server.answer = answering(padded(messages.Answer()))
    sync.next_step()
    dues = [one.due for one in store.encounters() if one.due > NOON + 1]
    assert len(dues) >= 50
    limits = world().parameters.limits
    assert max(dues) <= NOON + 1 + limits.delay
    assert max(dues) - min(dues) > limits.delay / 2


@pytest.mark.parametrize("lie", ["other day", "other contact"])
async def test_a_lying_answer_is_not_taken(store: Store, sync: Sync, server: Server, lie: str) -> None:
    if lie == "other day":
        a_proxy(server, day=19_999)
    else:
        a_proxy(server, secret=bytes(range(32)))
    assert (await sync.step()).failed == 1
    assert (the_one(store).state, the_one(store).refusals) == (State.WAITING, 1)
    assert the_one(store).record is None


async def test_a_contact_is_given_up_after_three_refusals(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    server.answer = refusing("refused", "no")
    for refusals in range(1, REFUSALS + 1):
        await sync.step()
        assert the_one(store).refusals == refusals
        clock.set(the_one(store).due)
    assert (the_one(store).state, the_one(store).problem) == (State.REFUSED, "no")


async def test_a_refusal_may_come_as_an_error_too(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    server.answer = problem(403, {"type": "urn:spot:refused", "detail": "n\x1bo"})
    for _ in range(REFUSALS):
        await sync.step()
        clock.set(the_one(store).due)
    assert (the_one(store).state, the_one(store).problem) == (State.REFUSED, "no")


async def test_a_backend_wrong_for_ten_minutes_ends_no_contact(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    """As one whose keys are being replaced, or whose clock is off, all of it at once."""
    server.answer = refusing("refused", "no")
    while clock.now() < NOON + 600:
        await sync.step()
        clock.set(min(max(the_one(store).due, clock.now() + 1), NOON + 600))
    a_proxy(server)
    clock.set(max(the_one(store).due, clock.now()))
    assert (await sync.step()).signed == 1


async def test_proxies_of_one_group_alone_cannot_end_a_contact(
    store: Store, server: Server, clock: VirtualClock
) -> None:
    """Whoever is drawn first: before a contact is given up, another group was asked, and answered as honest ones do."""
    async with serving() as lying:
        lying.answer = refusing("refused", "no")
        server.answer = answering(padded(messages.Answer()))
        joined.join(store, joined.link_of([lying.url], [server.url]))
        peers = [replace(met(f"peer {number}"), state=State.WAITING, due=NOON) for number in range(12)]
        store.keep_encounters(peers)
        sync = Sync(world().curve, random.SystemRandom(), store, clock)
        for _ in range(8):
            await sync.step()
            clock.set(max(one.due for one in store.encounters()))
        assert {one.state for one in store.encounters()} <= {State.WAITING, State.PENDING}


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_a_contact_has_half_of_the_groups_after_a_refusal(refusals: int) -> None:
    """So one group that is away for days holds nobody up, where there are more than three."""
    (first, *_) = world().parameters.groups
    groups = tuple(replaced(first, name=f"g{number}") for number in range(5))
    five = replaced(world().parameters, groups=groups)
    halves = [groups_for(five, replace(met(), refusals=refusals + later)) for later in (0, 1)]
    if not refusals:
        assert halves[0] == list(groups)
    else:
        assert {len(half) for half in halves} == {2, 3}
        assert {one.name for half in halves for one in half} == {one.name for one in groups}


async def test_a_contact_of_a_day_without_a_credential_leaves_its_moment_to_a_dummy(
    store: Store, server: Server, clock: VirtualClock
) -> None:
    """Else nothing would go out at it."""
    joined.join(store, joined.link_of([server.url], submission_gap=900))
    server.answer = answering(padded(messages.Answer()))
    today = encounter.day_of(NOON)
    issuers = tuple(replaced(one, from_day=today) for one in world().parameters.issuers)
    joined.move_on(store, issuers=issuers)
    before = [replace(met("before", first=NOON - 86_400), state=State.WAITING, due=NOON)]
    store.keep_encounters(before)
    sync = Sync(world().curve, random.SystemRandom(), store, clock)
    progress = await sync.step()
    while clock.now() < NOON + 3 * 900:
        clock.set(max(sync.next_step(), clock.now() + 1))
        progress = await sync.step()
        assert progress.submitted == 0
    sent = [messages.decode(messages.Submission, body) for body in server.bodies if len(body) > 100]
    assert 2 <= len(sent) <= 4
    assert {one.day for one in sent} == {today}


@pytest.mark.parametrize("slug", ["unreachable", "code-refused-not", "key-changed", "storage", "not-joined", "busy"])
@pytest.mark.parametrize("status", [200, 400])
async def test_what_is_no_refusal_is_tried_for_ever(
    store: Store, sync: Sync, server: Server, clock: VirtualClock, slug: str, status: int
) -> None:
    as_error = problem(400, {"type": f"urn:spot:{slug}", "detail": "later"})
    server.answer = refusing(slug, "later") if status == 200 else as_error
    for _ in range(REFUSALS + 2):
        assert (await sync.step()).failed == 1
        clock.set(the_one(store).due)
    assert the_one(store).state is State.WAITING


async def test_nothing_is_submitted_by_parameters_that_have_run_out(
    store: Store, sync: Sync, server: Server, clock: VirtualClock
) -> None:
    late = int(world().parameters.valid_until) + 1.0
    store.keep_encounters([replace(met("late", first=late - 3600), state=State.WAITING, due=late)])
    a_proxy(server)
    for _ in range(REFUSALS + 1):
        clock.set(max(late, *(one.due for one in store.encounters())))
        await sync.step()
    assert server.bodies.count(b"") == len(server.bodies), "heads were asked for, nothing was submitted"
    (one,) = store.encounters(state=State.WAITING)
    assert "run out" in one.problem
    assert one.refusals == 0


async def test_requests_do_not_share_connections(store: Store, sync: Sync, server: Server) -> None:
    store.keep_encounters([replace(met(f"peer {number}"), state=State.WAITING, due=NOON) for number in range(9)])
    a_proxy(server)
    assert (await sync.step()).signed == 10
    assert len(set(server.ports)) == len(server.ports)


# --- chains ---


def heads(store: Store, *, parameters: messages.Head | None = None) -> messages.Heads:
    link = store.get("parameters", messages.Link)
    assert link is not None
    known = messages.Head(number=0, hash=chain.hash_of(hashing.PARAMETERS, link))
    return messages.Heads(parameters=parameters or known, publications=chain.EMPTY)


async def test_chains_that_agree(store: Store, sync: Sync, server: Server) -> None:
    server.answer = answering(web.Response(body=messages.encode(heads(store))))
    await sync.step(refresh=True)
    assert (sync.status().problem, sync.status().routes, sync.status().failures) == ("", 2, 0)


async def test_other_keys_for_other_users_are_noticed(store: Store, sync: Sync, server: Server) -> None:
    other = heads(store, parameters=messages.Head(number=0, hash=bytes(32)))
    server.answer = answering(web.Response(body=messages.encode(other)))
    await sync.step(refresh=True)
    assert "keys or publications" in sync.status().problem
    assert sync.status().failures == 1


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81" * 100, bytes(1000)])
async def test_heads_that_are_garbage(store: Store, sync: Sync, server: Server, body: bytes) -> None:
    server.answer = answering(web.Response(body=body))
    await sync.step(refresh=True)
    assert sync.status().failures == 1
    assert sync.status().problem


async def test_a_head_far_ahead_ends_at_the_first_link_that_is_not_there(
    store: Store, sync: Sync, server: Server
) -> None:
    far = messages.encode(heads(store, parameters=messages.Head(number=2**31, hash=bytes(32))))

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=far) if request.path == messages.HEADS_PATH else web.Response(status=404)

    server.answer = answer
    await sync.step(refresh=True)
    assert "404" in sync.status().problem
    assert len(server.ports) <= 5


@pytest.mark.parametrize(("seconds", "followed"), [(-1, True), (1, False)])
async def test_only_what_was_published_before_the_first_day_kept_is_passed_over(
    store: Store, sync: Sync, server: Server, seconds: int, followed: bool
) -> None:
    """An encounter of that day is kept until the day ends, so it can be published at any time of it."""
    here = world()
    first = (encounter.day_of(NOON) - here.parameters.limits.retention_days) * encounter.SECONDS_A_DAY
    oldest = messages.Publication(number=5, previous=bytes(32), issued_at=first + seconds, days=())
    link = publication.sign(here.publication_key, oldest)
    head = messages.Head(number=5, hash=publication.hash_of(oldest))
    shown = replaced(heads(store), publications=head, oldest=5)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=messages.encode(shown if request.path == messages.HEADS_PATH else link))

    server.answer = answer
    await sync.step(refresh=True)
    assert (sync.status().problem == "") is followed
    assert (store.link("publications", 5) is not None) is followed


async def test_a_route_in_alarm_does_not_keep_the_credential_from_being_renewed(
    store: Store, sync: Sync, server: Server
) -> None:
    """Else one group that shows something else would strand everybody who asks it when the issuer's period ends."""
    joined.join(store, joined.link_of([server.url]), server.url)
    store.put(renewal.PLAN, renewal.Plan(issuer=OTHER_ISSUER, at=NOON))
    split = messages.encode(heads(store, parameters=messages.Head(number=0, hash=bytes(32))))
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(body=split)

    server.answer = answer
    await sync.step(refresh=True)
    assert messages.NONCE_PATH in asked
    assert "keys or publications" in sync.status().problem


async def test_a_head_from_before_this_device_joined_is_no_alarm(store: Store, sync: Sync, server: Server) -> None:
    """Heads may be kept for a minute on their way, and a device joins at the newest."""
    store.keep_publication(messages.Head(number=5, hash=b"5" * 32), [])
    behind = replaced(heads(store), publications=messages.Head(number=4, hash=b"4" * 32))
    server.answer = answering(web.Response(body=messages.encode(behind)))
    await sync.step(refresh=True)
    assert sync.status().problem == ""
    forked = replaced(behind, publications=messages.Head(number=5, hash=b"4" * 32))
    server.answer = answering(web.Response(body=messages.encode(forked)))
    await sync.step(refresh=True)
    assert "not those that this device followed" in sync.status().problem
