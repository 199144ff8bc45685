"""Parts go away and come back; nobody minds for long."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from backend_stub.following import parameters as following
from backend_stub.network import calling
from backend_stub.network.problems import NotFound
from backend_stub.operations.running import Backend, running
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import messages
from protocol.errors import KeyChanged, Misuse, Unreachable
from tests.backend_stub import support
from tests.backend_stub.support import Encounter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend_stub.support import ManualClock, World


async def test_without_the_server_submissions_are_to_be_tried_again(there: World) -> None:
    left, right = await there.pair()
    met = Encounter()
    assert await there.submit(left, met) is None
    await there.backend.stop("server")
    with pytest.raises(Unreachable):
        await there.submit(right, met)
    await there.backend.start("server")
    await support.ready(there)
    assert await there.submit(right, met) is not None, "the first side is remembered"


async def test_without_a_proxy_the_other_one_serves(there: World) -> None:
    user = await there.user()
    await there.backend.stop("proxy-group-1-1")
    one = await there.submission(user, Encounter())
    with pytest.raises(Unreachable):
        await there.send_submission(one, there.proxies[0])
    await there.send_submission(one, there.proxies[1])


async def test_without_the_authority_submissions_go_on(there: World) -> None:
    left, right = await there.pair()
    met = Encounter()
    sides = [await there.submission(left, met), await there.submission(right, met)]
    link = messages.PARAMETERS_PATH.format(number=0)
    first = await there.send("GET", there.proxies[0] + link)
    await there.backend.stop("authority")
    for side in sides:
        await there.send_submission(side)
    assert await there.send("GET", there.proxies[0] + link) == first, "a link never changes: it is kept"
    for path in (messages.HEADS_PATH, messages.PARAMETERS_PATH.format(number=1)):
        with pytest.raises(Unreachable):
            await there.send("GET", there.proxies[0] + path)
    with pytest.raises(Unreachable):
        await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, b"anything")


async def test_parts_wait_for_the_authority(tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "backend", clock)
    backend = Backend(tmp_path / "backend", clock)
    try:
        for part in backend.parts[1:]:
            await backend.start(part)
        async with calling.session() as asking:
            there = support.World(backend, clock, asking)
            with pytest.raises(Unreachable, match="not reached the authority"):
                await there.refusal(support.NOTHING)
            await backend.start("authority")
            await support.ready(there)
            assert await there.submit(await there.user(), Encounter()) is None
    finally:
        await backend.stop_all()


@pytest.mark.parametrize("damaged", [False, True])
async def test_parts_start_without_the_authority_by_what_they_followed(there: World, *, damaged: bool) -> None:
    left, right = await there.pair()
    met = Encounter()
    sides = [await there.submission(left, met), await there.submission(right, met)]
    await there.send_submission(sides[0])
    parts = there.backend.parts[1:]
    for part in ("authority", *parts):
        await there.backend.stop(part)
        file = there.backend.folder / part / following.FILE
        assert file.exists() == (part != "authority")
        if damaged and part != "authority":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
    for part in parts:
        await there.backend.start(part)
    await asyncio.sleep(0.3)
    if damaged:
        with pytest.raises(Unreachable):
            await there.send_submission(sides[1])
        await there.backend.start("authority")
        await support.ready(there)
    assert await there.send_submission(sides[1]) is not None


async def test_another_authority_at_the_same_address_is_not_followed(tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "one", clock)
    await support.found(tmp_path / "two", clock)
    file = tmp_path / "one" / "server" / "settings.toml"
    ours, theirs = Backend(tmp_path / "one", clock), Backend(tmp_path / "two", clock)
    file.write_text(file.read_text().replace(ours.authority, theirs.authority))
    try:
        await theirs.start("authority")
        await ours.start("server")
        async with calling.session() as asking:
            there = support.World(ours, clock, asking)
            await asyncio.sleep(0.3)
            with pytest.raises(Unreachable, match="not reached"):
                await there.refusal(support.NOTHING)
    finally:
        await ours.stop_all()
        await theirs.stop_all()


async def test_parameters_that_have_run_out_stop_the_work(there: World, clock: ManualClock) -> None:
    await there.backend.stop("authority")
    clock.pass_by(days=31)
    with pytest.raises(KeyChanged, match="run out"):
        await there.refusal(support.NOTHING)


async def test_the_server_forgets_also_when_its_parameters_have_run_out(there: World, clock: ManualClock) -> None:
    """A project that ended, and whose authority went first."""
    left, right = await there.pair()
    await there.meet(left, right)
    await there.backend.stop("authority")
    clock.pass_by(days=40)

    async def forgotten() -> bool:
        clock.pass_by(seconds=600)
        async with db.opened(there.backend.folder / "server" / "server.db", tables.SERVER) as database:
            count = select(func.count()).select_from(tables.submissions)
            return await database.run(lambda connection: connection.scalar(count)) == 0

    await support.eventually(forgotten)


async def test_a_number_that_is_not_there_yet(there: World) -> None:
    for base in (there.backend.authority, there.proxies[0]):
        with pytest.raises(NotFound):
            await there.send("GET", base + messages.PUBLICATIONS_PATH.format(number=0))


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "backend", clock)
    port = int(Backend(tmp_path / "backend").server.rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(Misuse, match=f"cannot listen at 127.0.0.1 port {port}"),
    ):
        async with running(tmp_path / "backend", clock):
            pass


async def test_parts_by_wrong_names(there: World) -> None:
    with pytest.raises(Misuse, match="there is no part"):
        await there.backend.start("other")
    with pytest.raises(Misuse, match="runs already"):
        await there.backend.start("server")


async def test_a_part_that_breaks_is_noticed(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.create_task(there.backend.wait())

    def broken() -> float:
        raise RuntimeError("a bug")

    monkeypatch.setattr(there.clock, "now", broken)
    there.clock.pass_by(seconds=86_400)
    with pytest.raises(BaseExceptionGroup, match="unhandled"):
        await waiting
    monkeypatch.undo()
    for part in there.backend.parts:
        try:
            await there.backend.stop(part)
        except BaseExceptionGroup:
            continue
