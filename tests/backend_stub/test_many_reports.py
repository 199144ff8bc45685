"""Many reports at once, and strangers: they take neither each other's room nor that of heads and links."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent import transport
from backend_stub.authority import taking
from backend_stub.network import calling, certificates
from backend_stub.network.rates import Room
from backend_stub.operations.founding import Plan
from protocol import declaration, messages
from protocol.errors import Malformed, Refused, TooMany, Unreachable
from tests.backend_stub import support
from tests.backend_stub.test_limits import PROXY, connect, limited

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend_stub.support import ManualClock, World


async def test_who_is_no_proxy_takes_no_declaration_from_the_others(tmp_path: Path, clock: ManualClock) -> None:
    plan = Plan(port=0, pool_wait=0.01)
    few = {"declarations_a_second": 0.1}  # two at once
    async with limited(tmp_path / "backend", clock, "authority", plan=plan, **few) as there:
        folder = there.backend.folder
        trust = tuple(one.public_bytes(Encoding.DER) for one in certificates.roots(folder / "authority"))
        for _ in range(5):
            with pytest.raises(Refused, match="only proxies"):
                await transport.post(there.backend.authority, messages.DECLARATION_PATH, b"x", trust=trust)
        for expected in (Malformed, Malformed, TooMany):
            with pytest.raises(expected):  # asked with a proxy's certificate
                await there.send("POST", there.backend.authority + messages.DECLARATION_PATH, b"no report")


async def test_a_429_for_declarations_does_not_rest_heads(tmp_path: Path, clock: ManualClock) -> None:
    async with limited(tmp_path / "backend", clock, "authority", declarations_a_second=0.1) as there:
        for expected in (Malformed, Malformed, TooMany):
            with pytest.raises(expected):
                await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, b"no report")
        await there.trusted(there.proxies[0])


async def unknown(there: World, bytes_: int = 0) -> messages.SealedReport:
    """A report that takes its time and has no code, of at least so many bytes."""
    trusted = await there.trusted()
    point, show = bytes(48), support.NOTHING.show
    record = messages.ContactRecord(
        ccm=bytes(32), day=0, nullifier=point, server=1, partial=point, group="one", proof=show
    )
    one = messages.DeclaredContact(record=record, secret=bytes(32), role=0)
    count = bytes_ // len(messages.encode(one))
    body = messages.ReportBody(code="A", reply_key=bytes(32), issuer=1, contacts=(one,) * count)
    made = messages.Report(body=messages.encode(body), ownership=support.NOTHING.show)
    return declaration.seal(made, trusted.parameters.seal_key, trusted.head.hash)


async def test_a_report_that_waits_for_its_pace_is_not_in_memory(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    url = there.backend.authority + messages.DECLARATION_PATH
    await there.send("POST", url, messages.encode(await unknown(there)))
    sealed = messages.encode(await unknown(there, 600_000))
    monkeypatch.setattr(taking, "PACE", 3 / len(sealed))
    tracemalloc.start()
    try:
        head = f"POST {messages.DECLARATION_PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sealed)}\r\n\r\n"
        reader, writer = await connect(url, head.encode() + sealed)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await reader.readline()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < len(sealed) / 4
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
    finally:
        tracemalloc.stop()


async def test_heads_are_answered_while_100_reports_wait(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are connections for: here four."""
    monkeypatch.setattr(calling, "CONNECTIONS", 4)
    async with limited(tmp_path / "backend", clock, PROXY) as there:
        sealed = messages.encode(await unknown(there))
        monkeypatch.setattr(taking, "PACE", 3 / len(sealed))
        url = there.proxies[0] + messages.DECLARATION_PATH
        waiting = [asyncio.create_task(there.send("POST", url, sealed)) for _ in range(4)]
        await asyncio.sleep(0.5)
        await transport.get(there.proxies[0], messages.HEADS_PATH)
        assert not any(one.done() for one in waiting)
        await asyncio.gather(*waiting)


async def test_a_proxy_stops_while_it_asks_for_somebody_who_is_gone(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with limited(tmp_path / "backend", clock, PROXY) as there:
        sealed = messages.encode(await unknown(there))
        monkeypatch.setattr(taking, "PACE", 2 / len(sealed))
        head = f"POST {messages.DECLARATION_PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sealed)}\r\n\r\n"
        _, writer = await connect(there.proxies[0] + messages.DECLARATION_PATH, head.encode() + sealed)
        await asyncio.sleep(0.5)
        writer.transport.abort()
    await asyncio.sleep(0.1)
    assert "nobody thought of" not in caplog.text


async def test_reports_in_hand_are_bounded_by_their_bytes(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited(tmp_path / "backend", clock, PROXY, reports_mib=8) as there:
        url = there.proxies[0] + messages.DECLARATION_PATH
        sealed = messages.encode(await unknown(there, 2_000_000))
        monkeypatch.setattr(taking, "PACE", 2 / len(sealed))
        said = await asyncio.gather(*(there.send("POST", url, sealed) for _ in range(3)), return_exceptions=True)
        assert sum(isinstance(one, bytes) for one in said) == 1
        assert {one.after for one in said if isinstance(one, Unreachable)} == {2.0}
        assert await there.send("POST", url, sealed), "the room is free again"


def test_room_is_given_back() -> None:
    room = Room(10)
    with room.taken() as take, room.taken() as other:
        take(6)
        with pytest.raises(Unreachable, match="too many at once"):
            other(5)
        other(4)
    with room.taken() as take:
        take(10)
