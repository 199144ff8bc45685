"""Attack 15: somebody who watches a device's network tells from sizes and times when it had contacts, or declared.

What goes out goes out at moments drawn before, with or without something to say, and in the same sizes through the same
proxies: with the same draws, a device with contacts and a report puts exactly on the wire what one without them does.
`scripts/bench cover` captures weeks of real traffic and has classifiers look at it; here are fewer days, and mutants.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent import transport
from agent.report import Reporter
from agent.store import Encounter, State
from agent.submitting import Submitting
from agent.sync import Sync
from protocol import chain, contact, declaration, hashing, messages
from protocol.encounter import SECONDS_A_DAY, ccm_of, day_of
from scripts.benchmarks.cover import telling
from scripts.benchmarks.cover.capture import Connection
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.joined import met, world
from tests.agent.servers import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    import pytest

    from agent.store import Store

    Note = Callable[[str, bytes], bytes]

CODE = "ABCD-EFGH-IJKL-2345"
DAY = 20_000
SUBMISSIONS, DECLARATIONS = 7200, 14_400  # s, the mean gaps
TOLD, HIDDEN = 0.8, 0.65  # AUC: of so few days, what is no better than a guess is within 0.65


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
    record = None
    if signing and one.ccm in KNOWN:  # nobody else has a dummy's CCM
        signature = contact.sign_partially(here.curve, here.server, one.ccm, one.day, contact.nullifier_of(one))
        partial = messages.Partial(server=1, signature=signature)
        north = here.groups["north"].key
        record = contact.extend(here.random, here.proxies["north"].credential, "north", north, one, partial)
    return messages.pad(messages.encode(messages.Answer(record=record)), messages.ANSWER_SIZE)


KNOWN: set[bytes] = set()
"""CCMs that two have submitted."""


def heads_of(store: Store) -> messages.Heads:
    link = store.get("parameters", messages.Link)
    assert link is not None
    return messages.Heads(
        parameters=messages.Head(number=0, hash=chain.hash_of(hashing.PARAMETERS, link)), publications=chain.EMPTY
    )


def meets(store: Store, name: str, at: float, *, signing: bool) -> None:
    one = met(name, first=at)
    if signing:
        KNOWN.add(ccm_of(one.secret))
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
    folder: Path, days: float, *, contacts: int = 0, signing: bool = False, report: bool = False
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
            meets(store, f"contact {number}", NOON + number * 4000, signing=signing)
        if report:
            await reporter.make(CODE, [DAY])
        while clock.now() < NOON + days * SECONDS_A_DAY:
            await sync.step()
            clock.set(max(sync.next_step(), clock.now()))
        states = [one.state for one in store.encounters()]
        assert states.count(State.SIGNED) == 3 + contacts * signing, "what there was to send was sent"
        assert any(one.declared for one in store.encounters()) is report
    store.close()
    return seen


async def test_contacts_and_a_report_change_nothing_on_the_wire(tmp_path: Path) -> None:
    nothing = await watched(tmp_path / "nothing", 1.5)
    assert len(nothing) > 40
    assert await watched(tmp_path / "pending", 1.5, contacts=4) == nothing
    assert await watched(tmp_path / "signed", 1.5, contacts=4, signing=True) == nothing
    assert await watched(tmp_path / "report", 1.5, report=True) == nothing
    assert await watched(tmp_path / "all", 1.5, contacts=4, signing=True, report=True) == nothing


async def test_a_contact_that_asked_out_of_turn_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant sends contacts when they are due, beside the dummies."""
    honest = Submitting._use_slot

    async def beside(self: Submitting, base: float, progress: Any) -> None:
        await honest(self, base, progress)
        await self._submit_due(progress)

    nothing = await watched(tmp_path / "nothing", 0.7)
    monkeypatch.setattr(Submitting, "_use_slot", beside)
    assert await watched(tmp_path / "contacts", 0.7, contacts=2, signing=True) != nothing


# --- what a classifier makes of it ---


@dataclass
class Town:
    """Devices, what a watcher saw of them, and what happened."""

    connections: list[Connection] = field(default_factory=list)
    met: set[tuple[int, int]] = field(default_factory=set)
    declared: set[tuple[int, int]] = field(default_factory=set)

    def told(self, devices: int, days: int, yes: Collection[tuple[int, int]]) -> float:
        """The better classifier's AUC."""
        keys = [(device, day) for device in range(devices) for day in range(1, days)]
        found = telling.by_day(self.connections, lambda at: day_of(at) - DAY)
        rows = telling.features(found, keys, lambda at: at % SECONDS_A_DAY)
        return max(one.auc for one in telling.tell(rows, keys, yes).values())


async def lived(
    folder: Path, monkeypatch: pytest.MonkeyPatch, devices: int, days: int, *, cover: bool = True, sized: bool = True
) -> Town:
    """So many devices' days: every other one with contacts, every third with a report. No connection is made."""
    town, drawn = Town(), random.Random(11)
    gaps = {"submission_gap": SUBMISSIONS, "declaration_gap": DECLARATIONS} if cover else {}
    for device in range(devices):
        store, clock = joined.make_store(folder / f"{device}"), VirtualClock(DAY * float(SECONDS_A_DAY))
        joined.join(store, joined.link_of(**gaps))
        heads = heads_of(store)

        def note(path: str, body: bytes, device: int = device, clock: Any = clock, heads: Any = heads) -> bytes:
            found = answer_to(path, body, signing=True, heads=heads)
            at = clock.now()
            packets = [(at, True, 900 + len(body)), (at + 1, False, 1500 + len(found))]
            town.connections.append(Connection(device, packets))
            return found

        async def post(_base: str, path: str, body: bytes, *_: Any, note: Note = note, **__: Any) -> bytes:
            return note(path, body)

        async def get(_base: str, path: str, *_: Any, note: Note = note) -> bytes:
            return note(path, b"")

        monkeypatch.setattr(transport, "post", post)
        monkeypatch.setattr(transport, "get", get)
        sync = Sync(world().curve, drawn, store, clock)
        reporter = Reporter(world().curve, drawn, store, clock)
        if not sized:
            monkeypatch.setattr(Reporter, "size", lambda self: messages.REPORT_CLASSES[self.queued() is not None])
        for day in range(days):
            plan = []
            if drawn.random() < 0.5:
                town.met.add((device, day))
                plan += [(drawn.random(), "meet") for _ in range(drawn.randint(1, 2))]
            if day and drawn.random() < 0.33:
                plan.append((0.9 * drawn.random(), "declare"))
            for share, what in [*sorted(plan), (1.0, "")]:
                await until(clock, sync, (DAY + day + share) * SECONDS_A_DAY)
                if what == "meet":
                    meets(store, f"{device} {day} {share}", clock.now(), signing=True)
                elif what == "declare" and (report := ready(store)):
                    made = await reporter.make(CODE, {report.day})
                    town.declared.add((device, day))
                    if not cover:
                        await reporter.send(made)
        store.close()
    return town


def ready(store: Store) -> Encounter | None:
    """A contact that can be declared."""
    return next((one for one in store.encounters(state=State.SIGNED) if not one.declared), None)


async def until(clock: VirtualClock, sync: Sync, end: float) -> None:
    """Let the time come to this, with all that is due on the way."""
    while (at := max(sync.next_step(), clock.now())) < end:
        clock.set(at)
        await sync.step()
    clock.set(end)


async def test_no_classifier_tells_days_with_contacts_or_of_declaring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sync.REFRESH", SECONDS_A_DAY / 2)
    town = await lived(tmp_path, monkeypatch, 15, 7)
    assert min(len(town.met), len(town.declared)) > 10
    assert town.told(15, 7, town.met) < HIDDEN
    assert town.told(15, 7, town.declared) < HIDDEN


async def test_without_dummies_it_would_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sync.REFRESH", SECONDS_A_DAY / 2)
    town = await lived(tmp_path, monkeypatch, 15, 7, cover=False)
    assert town.told(15, 7, town.met) > TOLD
    assert town.told(15, 7, town.declared) > TOLD


async def test_dummies_of_another_size_would_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sync.REFRESH", SECONDS_A_DAY / 2)
    town = await lived(tmp_path, monkeypatch, 15, 7, sized=False)
    assert town.told(15, 7, town.declared) > TOLD
