"""What the parts log and store while everything goes its way, and while it does not."""

from __future__ import annotations

import base64
import logging
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent import account
from agent.kept import State
from protocol import encounter, messages
from protocol.errors import CodeRefused
from tests.end_to_end.people import signed, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.people import Person


def secrets_of(person: Person) -> Iterator[bytes]:
    """Every value that only this person's agent, or few others, may know."""
    member = person.store.get(account.MEMBERSHIP, account.Membership)
    assert member is not None
    yield member.secret
    yield member.invitation.encode()
    for one in person.store.encounters():
        yield one.secret
        yield encounter.ccm_of(one.secret)
        yield encounter.token_of(one.secret, 0)
        yield encounter.token_of(one.secret, 1)
        if one.record is not None:
            yield messages.decode(messages.ContactRecord, one.record).nullifier


def written(value: bytes) -> Iterator[bytes]:
    """The ways a value could have been written down."""
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    yield base64.b64encode(value).rstrip(b"=")
    yield base64.urlsafe_b64encode(value).rstrip(b"=")
    yield repr(value)[2:-1].encode()
    yield str(int.from_bytes(value, "big")).encode()
    yield str(int.from_bytes(value, "little")).encode()


async def test_logs_hold_no_value_of_anybody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with world(tmp_path, "abc") as made:
        a, b, c = made.people.values()
        made.meet(a, b)
        made.meet(b, c)
        await made.backend.stop("server")
        await a.sync()
        await made.backend.start("server")
        for person in (a, b, c, a, b):
            made.clock.jump(3700)
            await person.sync()
        wrong, code = "AAAA-BBBB-CCCC-DDDD", await made.code()
        with pytest.raises(CodeRefused) as refused:
            await a.declare(wrong)
        await a.declare(code)
        with pytest.raises(CodeRefused):
            await b.declare(code)
        await made.publish()
        await b.sync()
        assert b.warned
        known = {value for person in (a, b, c) for value in secrets_of(person)}
        known |= {text.encode() for one in (wrong, code) for text in (one, one.replace("-", ""))}
        # Problems that the agent keeps to show are texts for people, too.
        shown = "\n".join(one.problem for person in (a, b, c) for one in person.store.encounters())
        said = (caplog.text + refused.value.text + shown).encode()
        assert len(said) > 500
        found = [value for value in known if any(way in said for way in written(value))]
        assert not found


async def test_what_each_part_stores(tmp_path: Path) -> None:
    """No part's files hold what it must not know; the agent's hold nothing readable at all."""
    async with world(tmp_path, "ab") as made:
        a, b = made.people.values()
        made.meet(a, b)
        for person in (a, b, a):
            await person.sync()
            made.clock.jump(3700)
        assert signed(a)
        await a.declare(await made.code())
        await made.publish()
        await b.sync()
        every = [one for person in (a, b) for one in person.store.encounters()]
        assert {one.state for one in every} == {State.SIGNED}
        keys = [value for person in (a, b) for value in secrets_of(person)]

    def raw(*parts: str) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.joinpath(*parts).rglob("*")) if path.is_file())

    ccms = {encounter.ccm_of(one.secret) for one in every}
    tokens = {encounter.token_of(one.secret, role) for one in every for role in (0, 1)}
    server, authority = raw("backend", "server"), raw("backend", "authority")
    proxies = b"".join(raw("backend", path.name) for path in (tmp_path / "backend").glob("proxy-*"))
    secrets = {one.secret for one in every}
    assert all(ccm in server for ccm in ccms), "the server matches CCMs, so this looks in the right place"
    assert not any(value in server for value in secrets | tokens)
    assert not any(value in authority for value in secrets | ccms), "declared contacts are checked, and not kept"
    assert not any(value in proxies for value in secrets | ccms | tokens), "proxies keep no state"
    for name in "ab":
        files = b"".join(path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != "store.key")
        assert not any(value in files for value in keys)
        assert b"SQLite format" not in files

    for database in (tmp_path / "backend").rglob("*.db"):
        with sqlite3.connect(database) as connection:
            schema = " ".join(row[0] or "" for row in connection.execute("SELECT sql FROM sqlite_master")).lower()
        connection.close()
        assert not any(word in schema for word in ("address", "peer", " ip", "host", "agent", "user_id", "name_of"))
