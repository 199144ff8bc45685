"""Attack 11: a proxy that drops, delays, repeats, reorders, alters or invents submissions, or lies in its answer.

The attacker is a registered proxy: it sees each submission and each answer, and does with them what it likes. What it
alters the server refuses, what it repeats changes nothing, what it invents is nobody's; what it answers is checked by
the agent, which asks another proxy the next time. It can delay; that much is **not prevented**.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from agent import submitting
from agent.kept import State
from backend_stub.server import service as server
from protocol import contact, messages
from tests.backend_stub.support import Encounter, World
from tests.end_to_end import people

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from protocol.messages import Answer, Submission

    Trick = Callable[["Liar", bytes], Awaitable[bytes]]


@dataclass
class Liar:
    """A proxy in front of an honest one; `trick` gets a submission's bytes and gives the answer's."""

    honest: str
    trick: Trick
    seen: list[bytes] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append(body)
        return web.Response(body=await self.trick(self, body), content_type=messages.MEDIA_TYPE)

    async def forward(self, body: bytes) -> bytes:
        """The honest proxy's answer."""
        async with (
            aiohttp.ClientSession() as asking,
            asking.post(self.honest + messages.SUBMISSION_PATH, data=body) as got,
        ):
            answer = await got.read()
            if got.status != 200:
                raise web.HTTPBadRequest(body=answer, content_type=got.content_type)
            return answer

    async def answer(self, body: bytes) -> Answer:
        return messages.decode(messages.Answer, messages.unpad(await self.forward(body)))


def say(answer: Answer) -> bytes:
    return messages.pad(messages.encode(answer), messages.ANSWER_SIZE)


# --- tricks ---


async def drop(liar: Liar, body: bytes) -> bytes:
    raise web.HTTPBadGateway


async def always_pending(liar: Liar, body: bytes) -> bytes:
    return say(messages.Answer())


async def refuse(liar: Liar, body: bytes) -> bytes:
    raise web.HTTPForbidden(text="no")


async def garbage(liar: Liar, body: bytes) -> bytes:
    return secrets.token_bytes(messages.ANSWER_SIZE)


async def repeat(liar: Liar, body: bytes) -> bytes:
    return (await asyncio.gather(*(liar.forward(body) for _ in range(5))))[-1]


async def reorder(liar: Liar, body: bytes) -> bytes:
    """Keep each submission back until the next one has come."""
    held = liar.seen[-2] if len(liar.seen) > 1 else body
    await liar.forward(body)
    return await liar.forward(held)


async def another_day(liar: Liar, body: bytes) -> bytes:
    record = (await liar.answer(body)).record
    return say(messages.Answer(record=record and replace(record, day=record.day - 1)))


async def another_nullifier(liar: Liar, body: bytes) -> bytes:
    record = (await liar.answer(body)).record
    return say(messages.Answer(record=record and replace(record, nullifier=record.partial)))


async def another_signature(liar: Liar, body: bytes) -> bytes:
    record = (await liar.answer(body)).record
    return say(messages.Answer(record=record and replace(record, partial=record.nullifier)))


async def another_group(liar: Liar, body: bytes) -> bytes:
    record = (await liar.answer(body)).record
    return say(messages.Answer(record=record and replace(record, group="group-2")))


TRICKS = [drop, always_pending, refuse, garbage, repeat, reorder, another_day, another_nullifier, another_signature]


@asynccontextmanager
async def lying(there: people.World, trick: Trick) -> AsyncIterator[tuple[str, str]]:
    """A lying proxy, and an honest one of another group: their URLs."""
    first, *_, last = there.backend.proxies.values()
    app = web.Application()
    app.router.add_post(messages.SUBMISSION_PATH, Liar(first, trick).take)
    async with TestServer(app) as listening:
        yield str(listening.make_url("")).rstrip("/"), last


async def meet_through(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trick: Trick, lies: int
) -> tuple[list[State], list[State]]:
    """Two meet; so many of their first requests go through the liar. Their states then, and in the end."""
    async with people.world(folder, ("left", "right")) as there, lying(there, trick) as (liar, honest):
        left, right = there.people.values()
        drawn = itertools.chain(itertools.repeat(liar, lies), itertools.repeat(honest))
        monkeypatch.setattr(submitting, "draw_proxy", lambda *_: next(drawn))
        there.meet(left, right, minutes=5)
        for _ in range(2):
            await left.sync()
            await right.sync()
            there.clock.jump(3 * 3600)
        early = left.states() + right.states()
        for _ in range(4):
            there.clock.jump(13 * 3600)
            await left.sync()
            await right.sync()
        return early, left.states() + right.states()


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
async def test_a_liar_delays_and_gains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trick: Trick) -> None:
    early, late = await meet_through(tmp_path, monkeypatch, trick, lies=4)
    if trick not in (repeat, reorder):
        assert State.SIGNED not in early, "what is not right is not taken"
    assert late == [State.SIGNED, State.SIGNED], "and the contact gets signed through another proxy"


@pytest.mark.parametrize("trick", [another_day, another_nullifier, another_signature], ids=lambda trick: trick.__name__)
async def test_an_agent_that_does_not_check_would_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trick: Trick
) -> None:
    monkeypatch.setattr(contact, "check_record", lambda *_: None)
    early, _ = await meet_through(tmp_path, monkeypatch, trick, lies=4)
    assert State.SIGNED in early


# --- towards the server ---


async def alterations(there: World) -> dict[str, Submission]:
    """What a proxy can make of two submissions that it sees."""
    left, right = await there.pair()
    pairs = [(await there.submission(left, Encounter()), await there.submission(right, Encounter())) for _ in range(6)]
    changes: dict[str, Callable[[Submission, Submission], Submission]] = {
        "another contact": lambda one, other: replace(one, ccm=other.ccm),
        "another day": lambda one, other: replace(one, day=one.day - 1),
        "another ticket": lambda one, other: replace(one, ticket=one.ticket + 1),
        "another's nullifiers": lambda one, other: replace(
            one, show=replace(one.show, nullifiers=other.show.nullifiers)
        ),
        "another's proof": lambda one, other: replace(one, show=other.show),
        "invented": lambda one, other: replace(one, ccm=secrets.token_bytes(32)),
    }
    return {name: change(*pair) for (name, change), pair in zip(changes.items(), pairs, strict=True)}


async def test_what_it_alters_or_invents_the_server_refuses(there: World) -> None:
    for name, altered in (await alterations(there)).items():
        assert await there.refusal(altered), name


async def test_a_server_that_trusts_its_proxies_would_take_it(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "check_submissions", lambda *_: {})
    for name, altered in (await alterations(there)).items():
        assert not await there.refusal(altered), name
