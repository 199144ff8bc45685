"""Attack 15: somebody who watches a device's network tells from sizes and times when it had contacts, or declared.

What goes out goes out at moments drawn before, with or without something to say, and in the same sizes through the same
proxies: with the same draws, a device with contacts and a report puts exactly on the wire what one without them does.
An answer to a declaration comes at a time of its own, also where the checks of a report take longer.
`scripts/bench cover` captures weeks of real traffic and has classifiers look at it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.kept import State
from agent.report import Reporter
from agent.submitting import Submitting
from agent.sync import Sync
from backend_stub.authority import report, taking
from protocol import chain, contact, declaration, hashing, messages
from protocol.encounter import SECONDS_A_DAY, ccm_of
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met, world
from tests.agent.servers import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from agent.store import Store
    from tests.backend_stub.support import World

    Note = Callable[[str, bytes], bytes]

CODE = "ABCD-EFGH-IJKL-2345"
DAY = 20_000
LATE = 5.0  # s: an answer that is not there by then waits for the checks
SUBMISSIONS, DECLARATIONS = 7200, 14_400  # s, the stretches with one of each


# --- what anybody answers who stands for the backend ---


def answer_to(path: str, body: bytes, signing: bool, heads: messages.Heads) -> bytes:
    """What honest proxies answer; signing: whether the other side of every contact is there already."""
    here = world()
    if path == messages.HEADS_PATH:
        return messages.encode(heads)
    if path == messages.DECLARATION_PATH:
        sealed = messages.decode(messages.SealedReport, body)
        asked = messages.decode(messages.ReportBody, declaration.unseal(here.seal, sealed).body)
        receipt = messages.Receipt(accepted=bool(asked.code), reference="r")
        return declaration.seal_receipt(here.random, receipt, asked.reply_key, declaration.receipt_size(sealed))
    one = messages.decode(messages.Submission, body)
    record = refusal = None
    if one.ccm in UNWANTED:
        refusal = messages.Refusal(slug="refused", text="this day is over: nobody submits for it any more")
    if signing and one.ccm in KNOWN:  # nobody else has a dummy's CCM
        signature = contact.sign_partially(here.curve, here.server, one.ccm, one.day, contact.nullifier_of(one))
        partial = messages.Partial(server=1, signature=signature)
        north = here.groups["north"].key
        record = contact.extend(here.random, here.proxies["north"].credential, "north", north, one, partial)
    return messages.pad(messages.encode(messages.Answer(record=record, refusal=refusal)), messages.ANSWER_SIZE)


KNOWN: set[bytes] = set()
"""CCMs that two have submitted."""
UNWANTED: set[bytes] = set()
"""CCMs that are refused."""


def heads_of(store: Store) -> messages.Heads:
    link = store.get("parameters", messages.Link)
    assert link is not None
    return messages.Heads(
        parameters=messages.Head(number=0, hash=chain.hash_of(hashing.PARAMETERS, link)), publications=chain.EMPTY
    )


def meets(store: Store, name: str, at: float, *, signing: bool, refused: bool) -> None:
    one = met(name, first=at)
    if signing:
        KNOWN.add(ccm_of(one.secret))
    if refused:
        UNWANTED.add(ccm_of(one.secret))
    store.keep_encounters([replace(one, state=State.WAITING, due=at + 600)])


def has_signed(store: Store) -> None:
    """Contacts that were signed before, to be declared."""
    for secret, made in zip(world().secrets, world().contacts, strict=True):
        store.keep_encounters([replace(met(), secret=secret, state=State.WAITING)])
        store.settle(store.encounters()[-1], State.SIGNED, record=messages.encode(made.record))


# --- exactly the same on the wire ---


@dataclass(frozen=True)
class Seen:
    """One request as a watcher sees it: when, at which proxy, bytes there and back."""

    at: float
    proxy: int
    up: int
    down: int


async def watched(
    folder: Path,
    days: float,
    *,
    contacts: int = 0,
    signing: bool = False,
    refused: bool = False,
    declares: bool = False,
) -> list[Seen]:
    """What a device sends in so many days, over real connections, drawing its moments and proxies from one seed."""
    store, clock, seen = joined.make_store(folder), VirtualClock(NOON), []
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(serving()) for _ in range(2)]
        limits = {"submission_gap": SUBMISSIONS, "declaration_gap": DECLARATIONS, "retry_first": 3600}
        joined.join(store, joined.link_of(*([proxy.url] for proxy in proxies), **limits))
        heads = heads_of(store)

        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            found = answer_to(request.path, body, signing, heads)
            port = request.url.port
            place = [proxy.url.endswith(f":{port}") for proxy in proxies].index(True)
            headers = sum(map(len, [*request.headers.keys(), *request.headers.values()]))
            seen.append(Seen(clock.now(), place, len(body) + headers - len(str(port)), len(found)))
            return web.Response(body=found)

        for proxy in proxies:
            proxy.answer = answer
        has_signed(store)
        chance, wire = random.Random(), random.Random(5)
        sync = Sync(world().curve, chance, store, clock, wire)
        reporter = Reporter(world().curve, chance, store, clock)
        for number in range(contacts):
            meets(store, f"{folder.name} {number}", NOON + number * 4000, signing=signing, refused=refused)
        if declares:
            await reporter.make(CODE, [DAY])
        while clock.now() < NOON + days * SECONDS_A_DAY:
            await sync.step()
            clock.set(max(sync.next_step(), clock.now()))
        states = [one.state for one in store.encounters()]
        assert states.count(State.SIGNED) == 3 + contacts * signing, "what there was to send was sent"
        assert states.count(State.REFUSED) == contacts * refused
        assert any(one.declared for one in store.encounters()) is declares
    store.close()
    return seen


async def test_contacts_and_a_report_change_nothing_on_the_wire(tmp_path: Path) -> None:
    nothing = await watched(tmp_path / "nothing", 1.5)
    assert len(nothing) > 40
    assert await watched(tmp_path / "pending", 1.5, contacts=4) == nothing
    assert await watched(tmp_path / "signed", 1.5, contacts=4, signing=True) == nothing
    assert await watched(tmp_path / "refused", 1.5, contacts=2, refused=True) == nothing
    assert await watched(tmp_path / "report", 1.5, declares=True) == nothing
    assert await watched(tmp_path / "all", 1.5, contacts=4, signing=True, declares=True) == nothing


async def test_a_contact_that_asked_out_of_turn_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant sends contacts when they are due, beside the dummies."""
    honest = Submitting._use_slot

    async def beside(self: Submitting, base: float, progress: Any) -> None:
        await honest(self, base, progress)
        await self._submit_due(progress)

    nothing = await watched(tmp_path / "nothing", 0.7)
    monkeypatch.setattr(Submitting, "_use_slot", beside)
    assert await watched(tmp_path / "contacts", 0.7, contacts=2, signing=True) != nothing


async def test_dummies_of_another_size_than_reports_would_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporter, "size", lambda self: messages.REPORT_CLASSES[self.queued() is not None])
    nothing = await watched(tmp_path / "nothing", 0.7)
    assert await watched(tmp_path / "report", 0.7, declares=True) != nothing


async def test_without_dummies_there_would_be_contacts_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_self: Submitting, _progress: Any, _proxy: str) -> None:
        """Send no dummy."""

    monkeypatch.setattr(Submitting, "_pretend", silent)
    nothing = await watched(tmp_path / "nothing", 0.7)
    contacts = await watched(tmp_path / "contacts", 0.7, contacts=2, signing=True)
    assert len(contacts) > len(nothing)


# --- the time of an answer ---


async def waits_longer_than_a_dummy(there: World, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a report is not answered as long as its checks go on: who watches would see it wait."""
    go_on, honest = asyncio.Event(), report._check

    async def long(*given: Any) -> Any:
        await go_on.wait()
        return await honest(*given)

    monkeypatch.setattr(report, "_check", long)
    user, other = await there.pair()
    made = await there.report(user, await there.code(), [await there.meet(user, other)])
    trusted, (nothing, _) = await there.trusted(), declaration.dummy(secrets.token_bytes)
    dummy = declaration.seal(nothing, trusted.parameters.seal_key, trusted.head.hash)
    url = there.proxies[0] + messages.DECLARATION_PATH
    asked = [asyncio.create_task(there.send("POST", url, messages.encode(one))) for one in (made.sealed, dummy)]
    await asyncio.wait(asked[1:])
    answered, _ = await asyncio.wait(asked[:1], timeout=LATE)
    go_on.set()
    await asyncio.gather(*asked)
    return not answered


async def test_a_report_is_answered_when_a_dummy_is(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not await waits_longer_than_a_dummy(there, monkeypatch)


async def test_an_answer_once_it_is_known_would_be_late(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def when_checked(taken: taking.Taken) -> bytes:
        return await taken.checks or b""

    monkeypatch.setattr(taking.Taken, "answer", when_checked)
    assert await waits_longer_than_a_dummy(there, monkeypatch)
