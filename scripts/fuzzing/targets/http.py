"""Requests to a running authority, server and proxy: raw bytes, and bodies in requests that are well made."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from protocol import credential, messages
from scripts.fuzzing import sealing
from scripts.fuzzing.backend import CODE, asked
from scripts.fuzzing.target import Target, notice, with_mode
from tests.backend_stub.support import CURVE, NOTHING, Encounter
from tests.support import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.fuzzing.backend import Asked
    from scripts.fuzzing.target import Check

PATHS = {
    "nonce": ("authority", messages.NONCE_PATH),
    "join": ("authority", messages.JOIN_PATH),
    "renewal": ("authority", messages.RENEWAL_PATH),
    "declaration": ("authority", messages.DECLARATION_PATH),
    "handed declaration": ("proxy", messages.DECLARATION_PATH),
    "submission": ("proxy", messages.SUBMISSION_PATH),
    "partial": ("server", messages.PARTIAL_PATH),
}
PARTS = ("authority", "server", "proxy")
SEALED = "sealed report"
GETS = (
    messages.HEADS_PATH,
    messages.PARAMETERS_PATH.format(number=0),
    messages.PUBLICATIONS_PATH.format(number=0),
    "/v1/parameters/999999999",
    "/v1/parameters/-1",
    "/",
)


def seeds() -> Iterator[bytes]:
    """Honest messages of another backend, and requests of all kinds."""
    world = world_of("arkworks")
    one = world.contacts[0]
    join = world.alice.request
    bodies = {
        "nonce": b"",
        "join": messages.encode(messages.UserJoin(invitation=CODE, issuer=1, join=join)),
        "renewal": messages.encode(messages.Renewal(issuer=1, join=join)),
        "declaration": messages.encode(messages.SealedReport(parameters=bytes(32), sealed=bytes(1136))),
        "handed declaration": messages.encode(messages.SealedReport(parameters=bytes(32), sealed=bytes(1136))),
        "submission": messages.encode(one.submission),
        "partial": messages.encode(messages.Submissions(submissions=(one.submission, NOTHING))),
        SEALED: messages.encode(world.report),
    }
    for mode, body in bodies.items():
        yield with_mode(mode, body)
    for part in PARTS:
        for path in GETS:
            yield with_mode(part, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        chunked = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        yield with_mode(part, b"POST /v1/submission HTTP/1.1\r\n" + chunked)
        expecting = b"Host: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
        yield with_mode(part, b"POST /v1/join HTTP/1.1\r\n" + expecting)
        yield with_mode(part, b'GET /v1/heads HTTP/1.0\r\nHost: x\r\nIf-None-Match: W/"a", "b", *\r\n\r\nGET /x')
        yield with_mode(part, b"GET /v1/heads HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


def _own_seeds(asking: Asked) -> Iterator[bytes]:
    """Messages that this backend takes: they begin what is only made of them, and are no inputs to be kept."""

    async def make() -> list[bytes]:
        there = asking.there
        one = await there.submission(await there.user(), Encounter(bytes(32)))
        key = (await there.keys()).issuer(1)
        join = credential.join(CURVE, secrets.token_bytes, 7, key, await there.nonce())
        asked_join = messages.UserJoin(invitation=await there.invite(), issuer=1, join=join)
        return [
            with_mode("submission", messages.encode(one)),
            with_mode("partial", messages.encode(messages.Submissions(submissions=(one,)))),
            with_mode("join", messages.encode(asked_join)),
        ]

    yield from asking.do(make())


@contextmanager
def ready() -> Iterator[Check]:
    """The check of one input on a running backend."""
    with asked() as asking:
        trusted = asking.do(asking.there.trusted())

        def check(data: bytes) -> None:
            first, _, rest = data.partition(b"\n")
            mode = first.decode("latin-1")
            notice(mode)
            if mode in PATHS:
                asking.post(*PATHS[mode], rest)
            elif mode in PARTS:
                asking.send(mode, rest)
            elif mode == SEALED:
                status, answer = asking.post("authority", messages.DECLARATION_PATH, seal(rest))
                assert status in (200, 400, 409), answer

        def seal(report: bytes) -> bytes:
            """Whatever it is, sealed as a report would be."""
            public, hash_ = trusted.parameters.seal_key, trusted.head.hash
            return messages.encode(sealing.sealed(sealing.padded(report), public, hash_))

        for seed in _own_seeds(asking):
            check(seed)
        yield check


TARGET = Target(
    name="http",
    about="requests to a running authority, server and proxy, raw or with any body, sealed reports among them",
    modules=(
        "backend_stub.network.web",
        "backend_stub.network.problems",
        "backend_stub.authority.join",
        "backend_stub.authority.report",
        "backend_stub.proxy.service",
        "backend_stub.server.service",
        "backend_stub.following.checking",
    ),
    modes=(*PATHS, *PARTS, SEALED),
    seeds=seeds,
    ready=ready,
    longest=8192,
    seconds=30,
)
