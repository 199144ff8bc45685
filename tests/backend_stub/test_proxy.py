"""What a proxy does besides passing on: it mixes, and believes nobody."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from backend_stub.authority import service as authority
from backend_stub.network import calling, pacing
from backend_stub.operations.running import Backend, running
from backend_stub.proxy import service as proxy
from backend_stub.server import service as server
from protocol import contact, messages
from protocol.errors import Refused, Unreachable
from tests.backend_stub import support
from tests.backend_stub.support import CURVE, Encounter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from protocol.messages import Outcome, Submission
    from tests.backend_stub.support import ManualClock, World


async def test_requests_are_pooled_and_shuffled(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight requests at once reach the server as one, a full pool, long before the wait is over."""
    pools: list[list[bytes]] = []
    ask = proxy.Extender._ask_server

    async def watched(self: proxy.Extender, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        pools.append([one.ccm for one in submissions])
        return await ask(self, submissions)

    monkeypatch.setattr(proxy.Extender, "_ask_server", watched)
    monkeypatch.setattr("secrets.SystemRandom.shuffle", lambda _self, pool: pool.reverse())
    await support.found(tmp_path / "backend", clock, replace(support.PLAN, pool_wait=12))
    file = tmp_path / "backend" / "proxy-group-1-1" / "settings.toml"
    file.write_text(file.read_text().replace("pool_size = 64", "pool_size = 8"))
    other = tmp_path / "backend" / "proxy-group-2-1" / "settings.toml"
    other.write_text(other.read_text().replace("pool_wait = 12", "pool_wait = 0.01"))
    async with running(tmp_path / "backend", clock) as backend, calling.session() as asking:
        there = support.World(backend, clock, asking)
        there.proxies = there.proxies[1:]
        await support.ready(there)
        user = await there.user()
        asked = [await there.submission(user, Encounter()) for _ in range(8)]
        first = backend.proxies["proxy-group-1-1"]
        sending = []
        for one in asked:
            sending.append(asyncio.create_task(there.send_submission(one, first)))
            await asyncio.sleep(0.02)
        await asyncio.gather(*sending)
    assert [sorted(pool) for pool in pools] == [sorted(one.ccm for one in asked)]
    assert len(pools[0]) == 8


async def test_no_more_than_so_many_pools_are_in_work_at_once(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a server that hangs would fill a proxy's memory, whatever its queue takes."""
    at_once = 0
    go_on = asyncio.Event()
    ask = proxy.Extender._ask_server

    async def watched(self: proxy.Extender, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        nonlocal at_once
        at_once += 1
        await go_on.wait()
        return await ask(self, submissions)

    monkeypatch.setattr(proxy.Extender, "_ask_server", watched)
    user = await there.user()
    asked = [await there.submission(user, Encounter()) for _ in range(2 * proxy.MOST_POOLS)]
    sending = []
    for one in asked:
        sending.append(asyncio.create_task(there.send_submission(one)))
        await asyncio.sleep(0.03)  # more than a pool waits
    assert at_once == proxy.MOST_POOLS
    go_on.set()
    await asyncio.gather(*sending)


@pytest.mark.parametrize(("took", "steps"), [(0.0, 1), (0.3, 1), (1.5, 2), (7.9, 8)])
async def test_an_answer_is_due_at_a_multiple_of_the_step(took: float, steps: int) -> None:
    began = asyncio.get_running_loop().time() - 0.1 * took
    assert pacing.due(began, 0.1) == pytest.approx(began + 0.1 * steps)


async def test_what_an_answer_says_does_not_change_when_it_is_given(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the work: the answers wait for the same moments after their pools began."""
    waited: list[tuple[float, float]] = []

    async def watched(until: float) -> None:
        waited.append((asyncio.get_running_loop().time(), until))

    steps: list[float] = []
    honest = pacing.due

    def noted(began: float, step: float) -> float:
        steps.append((honest(began, step) - began) / step)
        return honest(began, step)

    monkeypatch.setattr(pacing, "wait", watched)
    monkeypatch.setattr(pacing, "due", noted)
    left, right = await there.pair()
    met = Encounter()
    assert await there.submit(left, met) is None
    assert await there.submit(right, met) is not None
    late = replaced_day(await there.submission(left, Encounter()))
    with pytest.raises(Refused):
        await there.send_submission(late)
    assert len(waited) == 3, "pending, signed, refused"
    assert all(step == pytest.approx(round(step)) for step in steps)
    assert all(until > now for now, until in waited)


def replaced_day(one: Submission) -> Submission:
    return msgspec.structs.replace(one, day=one.day - 1)


@pytest.mark.parametrize("fault", ["wrong signature", "no point", "too few", "nonsense"])
async def test_a_server_that_answers_wrongly_is_not_signed_for(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    left, right = await there.pair()
    met = Encounter()
    assert await there.submit(left, met) is None
    honest = server.Server.outcomes

    async def lying(self: server.Server, submissions: Sequence[Submission]) -> Any:
        (outcome,) = await honest(self, submissions)
        assert outcome.partial is not None
        if fault == "too few":
            return [outcome, outcome]
        if fault == "nonsense":
            return [msgspec.structs.replace(outcome, refusal="x" * 400)]
        partial = {
            "wrong signature": messages.Partial(server=1, signature=CURVE.g1.encode()),
            "no point": messages.Partial(server=1, signature=bytes(48)),
        }[fault]
        return [messages.Outcome(partial=partial)]

    monkeypatch.setattr(server.Server, "outcomes", lying)
    one = await there.submission(right, met)
    with pytest.raises(Unreachable):
        await there.send_submission(one)
    assert "server" in caplog.text
    if fault in {"wrong signature", "no point"}:  # which no dummy gets: so it must have the size of its answer
        url = there.proxies[0] + messages.SUBMISSION_PATH
        answer = messages.unpad(await there.send("POST", url, messages.encode(one)))
        refusal = messages.decode(messages.Answer, answer).refusal
        assert refusal is not None
        assert refusal.slug == Unreachable.slug
    monkeypatch.undo()
    assert await there.submit(right, met) is not None


async def test_one_bad_request_does_not_hurt_its_pool(there: World) -> None:
    user = await there.user()
    good = [await there.submission(user, Encounter()) for _ in range(3)]
    bad = msgspec.structs.replace(good[0], ccm=secrets.token_bytes(32))
    results = await asyncio.gather(*(there.send_submission(one) for one in (*good, bad)), return_exceptions=True)
    assert [isinstance(result, bytes) for result in results] == [True, True, True, False]
    assert isinstance(results[-1], Refused)


async def test_parts_run_from_wherever_their_folders_are(tmp_path: Path, clock: ManualClock) -> None:
    """Each folder has all that its part needs: moved apart, under other names, they still work together."""
    await support.found(tmp_path / "backend", clock)
    backend = Backend(tmp_path / "backend", clock)
    serving = {"authority": authority.serving, "server": server.serving, "proxy-group-1-1": proxy.serving}
    async with AsyncExitStack() as parts, calling.session() as asking:
        for index, (part, serve) in enumerate(serving.items()):
            moved = tmp_path / f"machine-{index}"
            shutil.copytree(tmp_path / "backend" / part, moved)
            await parts.enter_async_context(serve(moved, clock))
        there = support.World(backend, clock, asking)
        there.proxies = there.proxies[:1]
        await support.ready(there)
        one = await there.submission(await _user(there, tmp_path / "machine-0"), Encounter())
        assert len(await there.send_submission(one)) == messages.ANSWER_SIZE
        assert contact.nullifier_of(one)


async def _user(there: World, folder: Path) -> support.User:
    there.backend.folder = folder.parent
    (folder.parent / "authority").symlink_to(folder)
    return await there.user()
