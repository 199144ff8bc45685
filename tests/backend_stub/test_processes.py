"""Several processes of a part: they stand in for each other, and none ends with a request unanswered."""

from __future__ import annotations

import asyncio
import secrets
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from backend_stub import settings
from backend_stub.clock import ScaledClock
from backend_stub.network import calling
from backend_stub.operations.running import Backend
from protocol import contact, messages
from protocol.timescale import read_timescale
from tests.backend_stub import support
from tests.backend_stub.processes import processes
from tests.backend_stub.support import CURVE, TICKETS, Encounter, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend_stub.support import User

SENDERS = 6


@dataclass
class Load:
    """What became of the requests that were sent."""

    answers: int = 0
    never_taken: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def send_for_ever(there: World, user: User, proxy: str, load: Load, stop: asyncio.Event) -> None:
    """Submit as agents do: each contact on a connection of its own."""
    key = (await there.keys()).issuer(user.issuer)
    day = int(ScaledClock(read_timescale("1@0")).now() // 86400)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as asking:
        while not stop.is_set():
            one = await asyncio.to_thread(
                contact.submit,
                *(CURVE, secrets.token_bytes, user.credential, key, user.issuer, Encounter().ccm, day),
                contact.Ticket(day, next(TICKETS[user.credential.secret])),
            )
            try:
                async with asking.post(proxy + messages.SUBMISSION_PATH, data=messages.encode(one)) as response:
                    body = await response.read()
                    answer = messages.decode(messages.Answer, messages.unpad(body)) if response.status == 200 else None
                    if answer and not answer.refusal and len(body) == messages.ANSWER_SIZE:
                        load.answers += 1
                    else:
                        load.wrong.append(f"{response.status} {body!r}")
            except aiohttp.ServerDisconnectedError as error:
                load.wrong.append(repr(error))
            except (aiohttp.ClientConnectorError, aiohttp.ClientOSError) as error:
                load.never_taken.append(repr(error))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals connections out among processes")
async def test_processes_come_and_go_under_load(tmp_path: Path) -> None:
    folder = tmp_path / "backend"
    clock = support.ManualClock(ScaledClock(read_timescale("1@0")).now())
    await support.found(folder, clock, replace(support.PLAN, pool_wait=0.2, groups=1))
    backend = Backend(folder)
    async with processes(folder, tmp_path) as run, calling.session() as asking:
        authority = await run.start("authority")
        servers = [await run.start("server") for _ in range(2)]
        proxies = [await run.start("proxy-group-1-1") for _ in range(2)]
        there = World(backend, clock, asking)
        users = [await there.user() for _ in range(2)]
        load, stop = Load(), asyncio.Event()
        async with asyncio.TaskGroup() as senders:
            for number in range(SENDERS):
                senders.create_task(send_for_ever(there, users[number % 2], there.proxies[0], load, stop))
            for kind, name in ((servers, "server"), (proxies, "proxy-group-1-1")):
                for _ in range(2):
                    await support.eventually(partial(more_than, load, load.answers + 20))
                    await kind.pop(0).terminate()
                    kind.append(await run.start(name))
            stop.set()
        for part in (*proxies, *servers, authority):
            await part.terminate()
    assert not load.wrong
    assert load.answers > 80
    counted = {part.log.name: part.answered() for part in run.parts}
    assert all(answered == taken for answered, taken in counted.values()), counted
    at_proxies = sum(answered for name, (answered, _) in counted.items() if "proxy" in name)
    assert at_proxies == load.answers, "what a proxy answered arrived"
    shared = [answered for name, (answered, _) in counted.items() if "proxy" in name]
    assert sum(one > 0 for one in shared) >= 2, "both had their share"
    assert len(load.never_taken) <= load.answers / 20, load.never_taken


async def more_than(load: Load, count: int) -> bool:
    assert not load.wrong
    return load.answers > count


async def test_several_urls_stand_in_for_each_other(tmp_path: Path) -> None:
    """Where processes cannot share a port, or run on several machines."""
    folder = tmp_path / "backend"
    clock = support.ManualClock(ScaledClock(read_timescale("1@0")).now())
    await support.found(folder, clock, replace(support.PLAN, groups=1))
    told = settings.read(settings.ProxySettings, folder / "proxy-group-1-1")
    ports = {"authority": told.port + 1000, "server": told.port + 1001}
    settings.write(
        folder / "proxy-group-1-1",
        settings.read(
            settings.ProxySettings,
            folder / "proxy-group-1-1",
            {name: [*getattr(told, name), f"http://127.0.0.1:{port}"] for name, port in ports.items()},
        ),
    )
    async with processes(folder, tmp_path) as run, calling.session() as asking:
        first = {name: await run.start(name) for name in ports}
        for name, port in ports.items():
            await run.start(name, "--port", str(port))
        await run.start("proxy-group-1-1")
        there = World(Backend(folder), clock, asking)
        left, right = await there.pair()
        met = Encounter()
        assert await there.submit(left, met) is None
        other = await there.submission(right, met)
        for part in first.values():
            await part.terminate()
        for _ in range(4):
            assert (await there.get(messages.Heads, messages.HEADS_PATH, there.proxies[0])).parameters.number == 0
        answer = messages.decode(messages.Answer, messages.unpad(await there.send_submission(other)))
        assert answer.record is not None, "both servers write to one database"
