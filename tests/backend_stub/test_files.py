"""Both chains as files: complete, whole, and enough for an agent to follow from a server that knows nothing of SPOT."""

from __future__ import annotations

import asyncio
import http.server
import os
import threading
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from agent import transport
from backend_stub.authority import chains, files
from backend_stub.authority import service as authority
from backend_stub.network import web
from backend_stub.operations import policy
from backend_stub.storage import tables
from backend_stub.storage.database import new
from protocol import messages, parameters
from protocol.encounter import token_of
from protocol.errors import StorageError
from tests.backend_stub.support import eventually
from tests.backend_stub.test_publication import declared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backend_stub.authority.service import Authority
    from tests.backend_stub.support import World


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own server of files, which knows nothing of SPOT."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


async def change(office: Authority, days: int) -> None:
    async with office.database.transaction() as connection:
        changes = {"limits.first_seen_days": days}
        await chains.change(office, connection, lambda now: policy.with_changes(now, changes))


async def test_an_agent_follows_from_any_web_server(there: World) -> None:
    (met,) = await declared(there)
    await there.publish()
    async with there.office() as office:
        await change(office, 1)
        await files.write(office)
        folder = files.folder_of(office)
    with served(folder) as base:
        heads = messages.decode(messages.Heads, await transport.get(base, messages.HEADS_PATH))
        trusted = parameters.begin(await link(base, messages.PARAMETERS_PATH, 0))
        while trusted.head.number < heads.parameters.number:
            path = messages.PARAMETERS_PATH
            trusted = parameters.advance(trusted, await link(base, path, trusted.head.number + 1))
        assert trusted.head == heads.parameters == (await there.trusted()).head
        (batch,) = await there.publications(base)
    assert token_of(met.secret, 0) in batch.days[0].tokens
    assert trusted.parameters.limits.first_seen_days == 1


async def link(base: str, path: str, number: int) -> messages.Link:
    return messages.decode(messages.Link, await transport.get(base, path.format(number=number)))


async def test_what_is_missing_is_made_anew(there: World) -> None:
    await declared(there)
    await there.publish()
    async with there.office() as office:
        await files.write(office)
        root = files.folder_of(office)
        every = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert sorted(str(path.relative_to(root)) for path in every) == [
            "v1/heads",
            "v1/parameters/0",
            "v1/publications/0",
        ]
        for path in every:
            assert path.stat().st_mode & 0o777 == 0o644
            path.unlink()
        await files.write(office)
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == every


async def test_what_is_no_longer_offered_is_no_longer_there(there: World) -> None:
    await declared(there)
    await there.publish()
    async with there.office() as office:
        heads = await files.write(office)
        first = files.folder_of(office) / "v1/publications/0"
        assert first.exists()
        there.clock.pass_by(days=40)
        await chains.renew(office)
        await declared_again(office)
        await chains.publish(office)
        there.clock.pass_by(days=40)
        await chains.renew(office)
        await declared_again(office)
        await chains.publish(office)
        assert await chains.forget_publications(office) == 1
        heads = await files.write(office, heads)
        assert heads.oldest == 1
        assert not first.exists()
        first.touch()
        await files.write(office)
        assert not first.exists(), "nor after a start"


async def declared_again(office: Authority) -> None:
    row = {"token": os.urandom(16), "day": 1, "level": 1}
    await office.database.run(lambda connection: connection.execute(new(tables.tokens, connection).values(row)))


async def test_a_running_authority_writes_what_others_append(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY", 0.01)
    await there.backend.stop("authority")
    await there.backend.start("authority")
    async with there.office() as office:
        await change(office, 2)
        written = files.folder_of(office) / "v1" / "heads"

        async def there_now() -> bool:
            return messages.decode(messages.Heads, written.read_bytes()).parameters.number == 1

        await eventually(there_now)
        assert (files.folder_of(office) / "v1" / "parameters" / "1").exists()


async def test_a_failure_leaves_no_half_file_and_no_heads_ahead_of_it(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with there.office() as office:
        before = await files.write(office)
        await change(office, 2)
        root = files.folder_of(office)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            await files.write(office, before)
        assert messages.decode(messages.Heads, (root / "v1" / "heads").read_bytes()) == before
        assert not list(root.rglob("*.new"))
        monkeypatch.undo()
        assert (await files.write(office, before)).parameters.number == 1


@pytest.mark.parametrize("through", ["authority", "proxy"])
async def test_what_the_asker_has_is_not_sent_again(there: World, through: str) -> None:
    base = there.backend.authority if through == "authority" else there.proxies[0]
    kept = {"v1/heads": web.HEADS_SECONDS, "v1/parameters/0": web.LINK_SECONDS}
    for path, seconds in kept.items():
        async with there.asking.get(f"{base}/{path}") as answer:
            body, tag = await answer.read(), answer.headers["ETag"]
            assert f"max-age={seconds}" in answer.headers["Cache-Control"]
            assert ("immutable" in answer.headers["Cache-Control"]) is (seconds == web.LINK_SECONDS)
            assert body
        async with there.asking.get(f"{base}/{path}", headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (HTTPStatus.NOT_MODIFIED, b"")
        async with there.asking.get(f"{base}/{path}", headers={"If-None-Match": '"other"'}) as answer:
            assert (answer.status, await answer.read()) == (HTTPStatus.OK, body)


async def test_a_read_only_static_folder_is_a_warning(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or one in which nothing can be made for another reason, as in a file, where root cannot write, either."""
    monkeypatch.setattr(files, "LOOK_EVERY", 0.01)
    part = there.backend.folder / "authority"
    async with authority.opened(part, there.clock, {"static": "settings.toml"}) as office:
        with pytest.raises(StorageError, match="mend `static`"):
            await files.write(office)
        keeping = asyncio.create_task(files.keep_for_ever(office))
        await asyncio.sleep(0.1)
        assert not keeping.done()
        assert "it is tried again" in caplog.text
        keeping.cancel()
