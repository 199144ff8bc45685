"""Taking reports: answered at a moment of their own, whatever their checks take, which go on meanwhile."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from backend_stub.authority import report, taking
from backend_stub.network import pacing
from protocol import declaration, messages
from protocol.declaration import CHECKING
from protocol.errors import StorageError
from tests.backend_stub.support import Encounter

if TYPE_CHECKING:
    from backend_stub.authority.service import Authority
    from protocol.messages import Receipt
    from tests.backend_stub.support import Declaring, World


class Held:
    """Checks that wait until they may go on, and how many there were."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.one_begun = asyncio.Event()
        self.begun = 0

    @property
    def instead(self) -> Any:
        honest = report._check

        async def check(*given: Any) -> Any:
            self.begun += 1
            self.one_begun.set()
            await self.go_on.wait()
            return await honest(*given)

        return check


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(report, "_check", held.instead)
    return held


async def made(there: World) -> Declaring:
    left, right = await there.pair()
    return await there.report(left, await there.code(), [await there.meet(left, right)])


async def taken(office: Authority, one: Declaring) -> Receipt:
    with ExitStack() as room:
        begun = await taking.take(office, one.sealed, room)
    return declaration.open_receipt(await begun.answer(), one.reply_key)


async def test_who_gets_no_outcome_gets_it_by_the_same_report(there: World, held: Held) -> None:
    one = await made(there)
    url = there.proxies[0] + messages.DECLARATION_PATH
    answers = [await there.send("POST", url, messages.encode(one.sealed)) for _ in range(3)]
    assert {declaration.open_receipt(answer, one.reply_key) for answer in answers} == {CHECKING}
    assert held.begun == 1, "repeats wait for the same checks"
    held.go_on.set()
    outcome = await there.send_report(one)
    assert declaration.open_receipt(outcome, one.reply_key).accepted
    assert {len(answer) for answer in answers} == {len(outcome)}
    assert len(set(answers)) == 3, "each sealed with another nonce"


async def test_checking_uses_up_no_attempt(there: World, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ATTEMPTS", 1)
    one = await made(there)
    async with there.office() as office:
        assert await taken(office, one) == CHECKING
        await held.one_begun.wait()
    async with there.office() as office:  # started anew, while it was checked
        held.go_on.set()
        assert (await taken(office, one)).accepted
    assert held.begun == 2


async def test_the_room_is_given_back_when_the_checks_are_over(there: World, held: Held) -> None:
    given_back: list[str] = []
    one = await made(there)
    async with there.office() as office:
        with ExitStack() as room:
            room.callback(given_back.append, "first")
            begun = await taking.take(office, one.sealed, room)
        with ExitStack() as room:
            room.callback(given_back.append, "repeat")
            await taking.take(office, one.sealed, room)
        assert given_back == ["repeat"]
        await begun.answer()
        assert given_back == ["repeat"]
        held.go_on.set()
        await begun.checks
        await asyncio.sleep(0)
        assert given_back == ["repeat", "first"]
        assert office.under_way == {}


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ValueError("what")])
async def test_what_breaks_the_checks_is_told_to_the_operator_and_to_nobody_by_the_answer(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def broken(*_given: Any) -> Any:
        raise error

    one = await made(there)
    async with there.office() as office:
        with monkeypatch.context() as patched:
            patched.setattr(report, "_check", broken)
            assert await taken(office, one) == CHECKING
        assert "could not be checked" in caplog.text
        assert str(error) in caplog.text
        outcomes = [await taken(office, one) for _ in range(10)]
        assert outcomes[-1].accepted


async def test_a_dummy_is_taken_like_a_report(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both begin, wait for as long, and are looked at then."""
    waited: list[float] = []

    async def wait(until: float) -> None:
        waited.append(until)

    trusted, real = await there.trusted(), await made(there)
    monkeypatch.setattr(pacing, "wait", wait)
    nothing, reply_key = declaration.dummy(secrets.token_bytes)
    dummy = declaration.seal(nothing, trusted.parameters.seal_key, trusted.head.hash)
    async with there.office() as office:
        for sealed in (real.sealed, dummy):
            before = asyncio.get_running_loop().time()
            with ExitStack() as room:
                begun = await taking.take(office, sealed, room)
            assert not begun.checks.done()
            after = asyncio.get_running_loop().time()
            await begun.checks
            answer = await begun.answer()
            step = office.told.declaration_wait + len(sealed.sealed) * taking.PACE
            assert before + step <= waited[-1] <= after + step
    assert declaration.open_receipt(answer, reply_key) == report.DUMMY
    assert len(waited) == 2


async def test_bad_contacts_are_still_told(there: World) -> None:
    left, right = await there.pair()
    _, record = await there.meet(left, right)
    one = await there.report(left, await there.code(), [(Encounter(), record)])
    assert declaration.open_receipt(await there.send_report(one), one.reply_key).problem == "contacts"
