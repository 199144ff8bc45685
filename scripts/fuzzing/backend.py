"""A whole backend in this process, for requests that libFuzzer makes up: nothing may break, hang, or answer oddly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from msgspec.structs import replace
from sqlalchemy import insert

from backend_stub import settings
from backend_stub.authority import report, taking
from backend_stub.authority.join import hash_of
from backend_stub.network import listening, problems
from backend_stub.operations import founding
from backend_stub.storage import tables
from protocol import declaration, errors, messages
from scripts.fuzzing.target import notice
from tests.backend_stub import support
from tests.support import Source

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.backend_stub.support import World

CODE = "AAAA-BBBB-CCCC-DDDD"
PAUSE = 0.03  # seconds
PATIENCE = 15.0  # seconds for an answer to what is whole
_HEAD = re.compile(rb"HTTP/\d\.\d (\d{3}) [^\r\n]*\r\n((?:[!-~]+: [^\r\n]*\r\n)*)\r\n")
_STRANGERS = re.compile(rb"unknown field .*|[^\"]* on this path|\d+")  # what of an answer was in the request
_EXPECTED = {  # statuses that may be answered, but for those of errors
    200: messages.MEDIA_TYPE,
    304: "",
}


def _slugs(kind: type[errors.SpotError]) -> set[str]:
    return {kind.slug}.union(*map(_slugs, kind.__subclasses__()))


SLUGS = _slugs(errors.SpotError) | {"http", problems.NotFound.slug}
SLUGS -= {errors.SpotError.slug, errors.StorageError.slug}
"""What an error may say; not that something went wrong which nobody thought of."""


class Asked:
    """The running backend, to be asked one thing after the other. ports: of its parts, by name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, there: World, doors: list[listening.Door]) -> None:
        self.there = there
        self._loop = loop
        self._doors = doors
        urls = {"authority": there.backend.authority, "server": there.backend.server, "proxy": there.proxies[0]}
        self.ports = {name: int(url.rpartition(":")[2]) for name, url in urls.items()}
        self.wrong: list[str] = []
        loop.set_exception_handler(lambda _, context: self.wrong.append(str(context)))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What comes of it, while the backend goes on."""
        return self._loop.run_until_complete(work)

    def send(self, part: str, data: bytes, pause: float = PAUSE) -> list[tuple[int, bytes]]:
        """The answers (status, body) to bytes on a fresh connection, each looked at.

        pause: seconds without a byte after which a part that has nothing in hand waits for more, so all was said.
        """
        said = self.do(self._exchange(self.ports[part], data, pause))
        answers = list(_answers(said))
        assert not self.wrong, self.wrong
        return answers

    def post(self, part: str, path: str, body: bytes) -> tuple[int, bytes]:
        """The one answer to a request that is well made but for its body."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        (answer,) = self.send(part, head.encode() + body, PATIENCE)
        return answer

    async def _exchange(self, port: int, data: bytes, pause: float) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(data)
                while True:
                    try:
                        chunk = await asyncio.wait_for(reader.read(1 << 16), pause)
                    except TimeoutError:
                        if not any(door.in_hand for door in self._doors):
                            break
                        continue
                    if not chunk:
                        break
                    said += chunk
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return bytes(said)


def _answers(said: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and body of each answer, which is a message or a problem."""
    while said:
        head = _HEAD.match(said)
        assert head is not None, f"no answer of HTTP: {said[:100]!r}"
        status = int(head[1])
        lines = head[2].decode("latin-1").splitlines()
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        said = said[head.end() :]
        if status == 100:
            continue
        size = int(fields.get("content-length", 0))
        body, said = said[:size], said[size:]
        _check_answer(status, fields.get("content-type", ""), body)
        notice(f"{status} {_STRANGERS.sub(b'0', body[:300])!r}" if status >= 400 else f"{status}")
        yield status, body


def _check_answer(status: int, kind: str, body: bytes) -> None:
    if status in _EXPECTED:
        assert kind == _EXPECTED[status]
        return
    assert kind == problems.MEDIA_TYPE, f"{status} is no problem but {kind}"
    if not body:
        return  # to a HEAD
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["type"].removeprefix("urn:spot:") in SLUGS, problem
    assert 0 < len(problem["detail"]) < 600
    assert problem["detail"].isprintable()


class _Raised(logging.Handler):
    """Notes what parts log of things that nobody thought of."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line."""
        self._wrong.append(self.format(record))


async def _when_checked(taken: taking.Taken) -> bytes:
    """The answer as soon as it is known: nobody is there who could tell anything from the time it takes."""
    return await taken.checks or taken.reply.seal(declaration.CHECKING)


@contextmanager
def asked() -> Iterator[Asked]:
    """A backend whose keys are always the same, so that a kept input goes on to mean what it meant."""
    doors: list[listening.Door] = []
    opened = listening.Door.open

    def opening(door: listening.Door, *how: Any) -> None:
        doors.append(door)
        opened(door, *how)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(listening.Door, "open", opening),
        mock.patch.object(taking.Taken, "answer", _when_checked),
        mock.patch.object(report, "ATTEMPTS", 1 << 40),
        asyncio.Runner() as runner,
    ):
        loop, clock = runner.get_loop(), support.ManualClock()
        place = Path(folder) / "backend"
        loop.run_until_complete(founding.found(place, support.PLAN, random=Source("fuzz"), clock=clock))
        _unhurried(place)
        running = support.world(place, clock)
        there = loop.run_until_complete(running.__aenter__())
        asking = Asked(loop, there, doors)
        handler = _Raised(asking.wrong)
        logging.getLogger("backend_stub").addHandler(handler)
        try:
            asking.do(_give_code(there))
            yield asking
        finally:
            logging.getLogger("backend_stub").removeHandler(handler)
            loop.run_until_complete(running.__aexit__(None, None, None))


def _unhurried(place: Path) -> None:
    """No limits of how often something is asked, and no processes beside."""
    for part in settings.parts(place):
        told = settings.read_part(place / part)
        changes: dict[str, Any] = {"declarations_a_second": 1e6, "joins_a_second": 1e6, "workers": 0, "pool_wait": 0.0}
        known = {name: value for name, value in changes.items() if hasattr(told, name)}
        settings.write(place / part, replace(told, **known))


async def _give_code(there: World) -> None:
    async with there.office() as opened:
        row = {"hash": hash_of(declaration.normal_code(CODE)), "onset": there.clock.today, "expires_at": 10**11}
        await opened.database.run(lambda connection: connection.execute(insert(tables.codes).values(row)))
