"""The running agent: on air, paused, stopped, with radio, disk and clock that fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent import service as module
from agent.commands import views
from agent.epochs import Epochs
from agent.keeping import Keeper
from agent.kept import State
from agent.proximity import Proximity
from agent.service import PAUSED, SERVICE, STOP, Service, ServiceStatus, is_running, running_lock
from agent.store import Store, open_store
from ble import watchdog
from ble.propagation import Propagation
from ble.radio import Radio, RadioError, Reason
from ble.simulated import Air, Conditions
from ble.watchdog import Health, Trouble
from protocol.errors import Busy, NotJoined, StorageError
from tests.agent import joined
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.processes import child
from tests.agent.servers import serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from agent.clock import Clock
    from agent.kept import Encounter
    from ble.radio import Sighting

CLEAR = Conditions(propagation=Propagation(fading=0.0), loss=0.0)


class FakeRadio(Radio):
    """A radio of an air that fails when told to, and remembers what it was asked."""

    def __init__(self, inner: Radio) -> None:
        self.inner = inner
        self.advertised: list[bytes | None] = []
        self.refuses: RadioError | None = None
        self.deaf: RadioError | None = None
        self.later: RadioError | None = None
        self.listening = 0

    @property
    def tx_power(self) -> int:
        return self.inner.tx_power

    @property
    def dropped(self) -> int:
        return 7

    @property
    def trouble(self) -> RadioError | None:
        return self.later

    async def advertise(self, block: bytes | None) -> None:
        self.advertised.append(block)
        if block is not None and self.refuses:
            await self.inner.advertise(None)
            raise self.refuses
        await self.inner.advertise(block)

    async def sightings(self) -> AsyncGenerator[Sighting]:
        self.listening += 1
        try:
            if self.deaf:
                raise self.deaf
            async with contextlib.aclosing(self.inner.sightings()) as sightings:
                async for sighting in sightings:
                    if self.deaf:
                        raise self.deaf
                    yield sighting
        finally:
            self.listening -= 1

    async def close(self) -> None:
        await self.inner.close()


OFF = RadioError(Reason.OFF, "Bluetooth is off: switch it on.")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own waits; those of the agent's clock are the tests' to end."""
    for name, seconds in (
        ("FLUSH", 0.01),
        ("CONTROL", 0.01),
        ("SYNC_POLL", 3600.0),
        ("RADIO_RETRY_FIRST", 0.01),
        ("RADIO_RETRY_LAST", 0.02),
    ):
        monkeypatch.setattr(module, name, seconds)
    for name, seconds in (("LOOK", 0.01), ("RETRY_FIRST", 0.01), ("RETRY_LAST", 0.02), ("STEADY", 0.05)):
        monkeypatch.setattr(watchdog, name, seconds)


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Whatever was started has ended when a test has."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def air(clock: VirtualClock) -> Air:
    return Air(clock, CLEAR)


@pytest.fixture
def radio(air: Air) -> FakeRadio:
    return FakeRadio(air.radio("agent", (0, 0)))


def make_service(store: Store, radio: Radio, clock: Clock) -> Service:
    return Service(store, radio, joined.world().curve, random.SystemRandom(), clock)


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[asyncio.Task[None]]:
    """Cancelled at the end."""
    task = asyncio.create_task(service.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def with_peer(air: Air, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Service]:
    """Another device, two metres away."""
    store = joined.make_store(tmp_path / "peer")
    joined.join(store)
    service = make_service(store, air.radio("peer", (2, 0)), clock)
    async with running(service):
        yield service
    store.close()


async def eventually(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.005)


def on_air(store: Store) -> bool:
    said = store.get(SERVICE, ServiceStatus)
    return said is not None and said.on_air


def problem(store: Store) -> str:
    said = store.get(SERVICE, ServiceStatus)
    return "nothing said" if said is None else said.radio_problem


def span(store: Store) -> float:
    return sum(one.span for one in store.encounters())


# --- one agent a folder ---


async def test_a_second_agent_on_a_folder_is_refused(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))
        other = open_store(store.folder, "file")
        with pytest.raises(Busy, match="already running"):
            await make_service(other, radio, clock).run()
        other.close()
        assert is_running(store.folder)
        assert on_air(store), "the second one touches nothing of the first"
    assert not is_running(store.folder)


async def test_asking_whether_it_runs_does_not_keep_it_from_starting(
    store: Store, radio: FakeRadio, clock: VirtualClock
) -> None:
    held, release = threading.Event(), threading.Event()

    def ask() -> None:
        with running_lock(store.folder):
            held.set()
            release.wait(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    held.wait()
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))
    release.set()
    asking.join()


async def test_an_agent_that_has_not_joined_does_not_run(folder: Path, radio: FakeRadio, clock: VirtualClock) -> None:
    store = joined.make_store(folder)
    with pytest.raises(NotJoined, match="spot join"):
        await make_service(store, radio, clock).run()
    assert radio.advertised == []
    store.close()


# --- encounters ---


async def test_what_was_heard_is_kept_and_becomes_waiting(
    store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path
) -> None:
    async with running(make_service(store, radio, clock)), with_peer(air, clock, tmp_path):
        await eventually(lambda: radio.advertised and radio.listening)
        await clock.advance(300)
        await eventually(lambda: span(store) > 280)
        (one,) = store.encounters()
        assert (one.state, one.due) == (State.OPEN, 0)
        await clock.advance(600 + 35)
        await eventually(lambda: store.encounters(state=State.WAITING))
        (done,) = store.encounters(state=State.WAITING)
        assert done.secret == one.secret
        assert clock.now() - 5 <= done.due <= clock.now() + 600


async def test_an_encounter_too_short_is_forgotten(
    store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path
) -> None:
    async with running(make_service(store, radio, clock)), with_peer(air, clock, tmp_path):
        await eventually(lambda: radio.listening)
        await clock.advance(30)
        await eventually(lambda: store.encounters())
    assert store.encounters() == []


async def test_all_secrets_are_gone_at_the_end(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    service = make_service(store, radio, clock)
    async with running(service):
        await eventually(lambda: on_air(store))
        (own,) = service._epochs._alive
        assert own.key._secret is not None
    assert own.key._secret is None
    assert service._epochs._alive == []
    assert radio.advertised[-1] is None
    assert radio.listening == 0
    assert store.get(SERVICE, ServiceStatus) is None


async def test_each_epoch_has_a_fresh_block(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: radio.advertised)
        for number in range(2, 5):
            await clock.advance(900)
            await eventually(lambda number=number: len(radio.advertised) >= number)  # type: ignore[misc]
    blocks = [block for block in radio.advertised if block]
    assert len(blocks) == len(set(blocks)) == 4


@pytest.mark.parametrize("jump", [3600, -3600, 86400])
async def test_a_clock_that_jumps_gets_a_fresh_block_soon(
    store: Store, radio: FakeRadio, clock: VirtualClock, jump: float
) -> None:
    """Such as after a night's sleep of a laptop: the machine's timers stood still meanwhile."""
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: radio.advertised)
        await clock.advance(100)
        assert len(radio.advertised) == 1
        clock.set(clock.now() + jump)
        await clock.advance(15)
        await eventually(lambda: len(radio.advertised) == 2)


# --- pause, resume, stop ---


async def test_pause_and_resume(store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path) -> None:
    service = make_service(store, radio, clock)
    other = open_store(store.folder, "file")  # as another process would
    async with running(service), with_peer(air, clock, tmp_path):
        await eventually(lambda: on_air(store))
        await clock.advance(120)
        await eventually(lambda: span(store) > 100)
        other.put(PAUSED, True)
        await eventually(lambda: not on_air(store))
        assert radio.advertised[-1] is None
        assert radio.listening == 0
        assert service._epochs._alive == []
        await eventually(lambda: store.encounters(state=State.WAITING))
        before = span(store)
        await clock.advance(120)
        assert span(store) == before
        other.put(PAUSED, None)
        await eventually(lambda: on_air(store) and radio.listening)
        assert radio.advertised[-1] not in (None, radio.advertised[0])
        await clock.advance(120)
        await eventually(lambda: span(store) > before + 100)
    other.close()
    assert len(store.encounters(state=State.WAITING)) == 2, "before and after share no key"


async def test_a_pause_outlives_a_restart(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    store.put(PAUSED, True)
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: store.get(SERVICE, ServiceStatus))
        assert not on_air(store)
        assert radio.advertised == []


async def test_stop_ends_it(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    service = make_service(store, radio, clock)
    async with running(service) as task:
        await eventually(lambda: on_air(store))
        store.put(STOP, True)
        await task
    assert radio.advertised[-1] is None
    assert store.get(SERVICE, ServiceStatus) is None
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))  # an old word to stop does not hold for the next start


@pytest.mark.parametrize("rounds", range(12))
async def test_it_can_be_cancelled_at_any_moment(
    store: Store, radio: FakeRadio, clock: VirtualClock, rounds: int
) -> None:
    service = make_service(store, radio, clock)
    async with running(service):
        for _ in range(rounds):
            await asyncio.sleep(0)
    assert not is_running(store.folder)
    if rounds:
        assert service._epochs._alive == []


# --- the radio ---


async def test_a_radio_that_does_not_send_is_told_and_tried_again(
    store: Store, radio: FakeRadio, clock: VirtualClock
) -> None:
    radio.refuses = OFF
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: problem(store) == str(OFF))
        await eventually(lambda: len(radio.advertised) > 3)
        assert not on_air(store)
        radio.refuses = None
        await eventually(lambda: on_air(store))
        assert problem(store) == ""
        said = store.get(SERVICE, ServiceStatus)
        assert said is not None
        assert said.dropped == 7


async def test_a_radio_that_does_not_hear_is_told_until_it_does(
    store: Store, radio: FakeRadio, clock: VirtualClock
) -> None:
    radio.deaf = OFF
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: problem(store) == str(OFF))
        assert not on_air(store)
        radio.deaf = None
        await eventually(lambda: on_air(store))
        assert problem(store) == ""


async def test_deaf_and_mute_are_told_apart_and_since_when(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))
        await clock.advance(5)
        radio.later = OFF
        await eventually(lambda: problem(store) == str(OFF))
        said = store.get(SERVICE, ServiceStatus)
        assert said is not None
        assert said.health == Health(mute=Trouble("mute", NOON + 5, str(OFF)))
        await clock.advance(60)
        radio.later = None
        await eventually(lambda: on_air(store) and problem(store) == "")
        said = store.get(SERVICE, ServiceStatus)
        assert said is not None
        assert said.health == Health(last=Trouble("mute", NOON + 5, str(OFF), NOON + 65))
        lines = " ".join(views.radio_texts(said, NOON + 70))
        assert "was mute from" in lines
        assert "for 60 s: Bluetooth is off: switch it on." in lines


def test_status_tells_what_is_wrong_since_when_and_what_was() -> None:
    health = Health(
        deaf=Trouble("deaf", NOON, "The adapter is off: turn it on."),
        mute=Trouble("mute", NOON + 60, "[bold]Busy[/]: wait."),
        last=Trouble("deaf", NOON - 600, "It stopped.", NOON - 500),
        quiet_since=NOON - 90,
    )
    said = ServiceStatus(pid=1, started=NOON, beat=NOON, health=health)
    assert views.radio_facts(said) == {
        "mute_since": NOON + 60,
        "mute": "[bold]Busy[/]: wait.",
        "deaf_since": NOON,
        "deaf": "The adapter is off: turn it on.",
        "quiet_since": NOON - 90,
        "unread": 0,
        "last_trouble": {"kind": "deaf", "since": NOON - 600, "what": "It stopped.", "until": NOON - 500},
    }
    mute, deaf, quiet, last = views.radio_texts(said, NOON + 600)
    assert "nobody can hear this device" in mute
    assert r"\[bold]Busy" in mute, "what BlueZ says is no markup"
    assert "(10 min)" in deaf
    assert "not even foreign devices" in quiet
    assert "for 100 s: It stopped." in last
    well = ServiceStatus(pid=1, started=NOON, beat=NOON)
    assert views.radio_texts(well, NOON) == views.radio_texts(None, NOON) == []
    assert not any(views.radio_facts(well).values())


async def test_a_peer_that_is_heard_too_poorly_to_be_made_out_is_told(
    store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Proximity.hear
    monkeypatch.setattr(Proximity, "hear", lambda self, one: honest(self, one) if one.frame.index < 2 else None)
    async with running(make_service(store, radio, clock)), with_peer(air, clock, tmp_path):
        await eventually(lambda: radio.advertised and radio.listening)
        await clock.advance(100)
        await eventually(lambda: (said := store.get(SERVICE, ServiceStatus)) and said.unread)
        said = store.get(SERVICE, ServiceStatus)
        assert said is not None
        assert (said.peers, said.unread, said.on_air) == (0, 1, True)
        assert views.radio_facts(said)["unread"] == 1
        (text,) = views.radio_texts(said, clock.now())
        assert "reception is poor[/]: 1 of 1 devices" in text


async def test_a_radio_that_fails_later_is_told(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))
        radio.later = OFF
        await eventually(lambda: problem(store) == str(OFF))
        radio.later = None
        await eventually(lambda: on_air(store) and problem(store) == "")


async def test_an_encounter_goes_on_after_the_radio_was_mended(
    store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path
) -> None:
    async with running(make_service(store, radio, clock)), with_peer(air, clock, tmp_path):
        await eventually(lambda: radio.advertised and radio.listening)
        await clock.advance(60)
        await eventually(lambda: span(store) > 50)
        radio.deaf, radio.later = OFF, OFF
        await clock.advance(60)
        await eventually(lambda: problem(store) == str(OFF))
        radio.deaf = radio.later = None
        await eventually(lambda: on_air(store) and radio.listening)
        await clock.advance(60)
        await eventually(lambda: span(store) > 170)
        assert len(radio.advertised) == 1, "the same key goes on"
    assert len(store.encounters()) == 1


async def test_nothing_heard_while_silent_is_kept(
    store: Store, radio: FakeRadio, clock: VirtualClock, air: Air, tmp_path: Path
) -> None:
    radio.refuses = OFF
    async with running(make_service(store, radio, clock)), with_peer(air, clock, tmp_path):
        await eventually(lambda: radio.listening)
        await clock.advance(120)
        await eventually(lambda: problem(store) == str(OFF))
        assert store.encounters() == []


async def test_a_radio_that_fails_while_it_falls_silent(store: Store, radio: FakeRadio, clock: VirtualClock) -> None:
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: on_air(store))
        await radio.close()  # advertise(None) raises from now on
    assert not is_running(store.folder)


# --- the disk ---


async def test_what_the_disk_does_not_take_is_kept_in_memory(
    store: Store,
    radio: FakeRadio,
    clock: VirtualClock,
    air: Air,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = itertools.count()

    def full(self: Store, encounters: object) -> None:
        next(tries)
        raise StorageError("the disk is full")

    with monkeypatch.context() as broken:
        service = make_service(store, radio, clock)
        async with running(service), with_peer(air, clock, tmp_path):
            await eventually(lambda: radio.listening)
            broken.setattr(Store, "keep_encounters", full)
            await clock.advance(1000)
            await eventually(lambda: next(tries) > 5)
            assert store.encounters() == []
            broken.undo()
            await eventually(lambda: len(store.encounters()) >= 2)
    assert span(store) > 900
    assert {one.state for one in store.encounters()} == {State.WAITING}


async def test_a_store_that_cannot_be_read_for_a_while_ends_nothing(
    store: Store, radio: FakeRadio, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = itertools.count()

    def broken_rows(self: Store, query: str, values: object = ()) -> list[object]:
        next(tries)
        raise StorageError("disk I/O error")

    async with running(make_service(store, radio, clock)) as task:
        await eventually(lambda: on_air(store))
        with monkeypatch.context() as broken:
            broken.setattr(Store, "_rows", broken_rows)
            await eventually(lambda: next(tries) > 30)
        await eventually(lambda: on_air(store))
        assert not task.done()
    assert radio.advertised[-1] is None


async def test_the_store_s_log_is_folded_in_while_it_runs(
    store: Store, radio: FakeRadio, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = store.folder / "store.db-wal"
    assert log.stat().st_size > 0
    monkeypatch.setattr(module, "FOLD", 0.01)
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: radio.listening and log.stat().st_size == 0)


async def test_chains_are_looked_at_while_contacts_wait(
    store: Store, radio: FakeRadio, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings must not wait for submissions that nobody answers, however many there are."""
    monkeypatch.setattr(module, "SYNC_POLL", 0.01)
    async with serving() as server:
        looked, submitted = asyncio.Event(), 0

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal submitted
            if request.method == "GET":
                looked.set()
                return web.Response(status=404)
            submitted += 1
            await server.over.wait()
            return web.Response(status=503)

        server.answer = answer
        joined.join(store, joined.link_of([server.url]))
        peers = [joined.met(f"peer {number}") for number in range(20)]
        store.keep_encounters([replace(one, state=State.WAITING, due=clock.now()) for one in peers])
        async with running(make_service(store, radio, clock)):
            await eventually(lambda: submitted)
            for _ in range(3):
                looked.clear()
                clock.set(clock.now() + 2 * 3600)
                await looked.wait()
            assert submitted < 20, "the contacts still wait"


@pytest.mark.parametrize("paused", [False, True])
async def test_old_days_are_forgotten_while_it_runs(
    store: Store, radio: FakeRadio, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, *, paused: bool
) -> None:
    """Also while the owner wants to be off the air."""
    monkeypatch.setattr("agent.days.HOUR", 0.1)
    store.put(PAUSED, paused)

    def days() -> list[int]:
        return [one.day for one in store.encounters()]

    store.keep_encounters([joined.met("old", first=NOON - 15 * 86400), joined.met("kept", first=NOON - 14 * 86400)])
    async with running(make_service(store, radio, clock)):
        await eventually(lambda: days() == [20_000 - 14])
        clock.set(clock.now() + 86400)
        await eventually(lambda: days() == [])


def test_what_was_heard_survives_a_kill(store: Store) -> None:
    folder = store.folder
    speed = 60.0
    with child("tests.agent.running", folder, f"{speed}@0") as process:

        def heard() -> list[Encounter]:
            assert process.poll() is None, process.stderr and process.stderr.read()
            return [one for one in store.encounters() if one.span > 120]

        while not heard():
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (before, *_) = heard_before = [one for one in store.encounters() if one.span > 120]
    assert not is_running(folder)
    again = open_store(folder, "file")
    limits = joined.world().parameters.limits
    Keeper(
        again, Proximity(Epochs(900, 0, random.randbytes)), lambda: limits, random.Random(0), VirtualClock()
    ).recover()
    found = {one.secret: one for one in again.encounters(state=State.WAITING)}
    assert before.secret in found
    assert len(found) >= len(heard_before)
    assert found[before.secret].samples == before.samples
    assert again.encounters(state=State.OPEN) == []
    assert again._rows("PRAGMA integrity_check") == [("ok",)]
    again.close()
