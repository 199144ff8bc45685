"""What is kept: private files, no address, nobody's name, and nothing that the logs could tell."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from backend_stub import settings
from backend_stub.authority import service as authority
from backend_stub.keyring import keys
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol.errors import Misuse, StorageError
from tests.backend_stub import support
from tests.backend_stub.support import CURVE, Encounter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.backend_stub.support import ManualClock, World

COLUMNS = {
    "links": "chain number hash body signature",
    "invitations": "hash expires_at",
    "members": "invitation nonce public request issued",
    "credentials": "public issuer until_day issued",
    "ended": "invitation",
    "proxies": "name group url public opening removed",
    "invited": "name group url nonce expires_at",
    "codes": "hash onset expires_at spent_by",
    "reports": "digest code answer",
    "checks": "number contacts checked began_at",
    "reported": "nullifier day",
    "tokens": "token day level",
    "submissions": "ccm nullifier day signed",
    "tickets": "day nullifier ccm",
}


def test_every_column_is_known() -> None:
    """A new column is a new thing that is known about people: think, then name it here."""
    known = tables.AUTHORITY.tables.tables | tables.SERVER.tables.tables
    assert {name: " ".join(table.columns.keys()) for name, table in known.items()} == COLUMNS


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
async def test_files_are_private_whatever_the_umask(tmp_path: Path, clock: ManualClock) -> None:
    before = os.umask(0)
    try:
        await support.found(tmp_path / "backend", clock)
        async with support.world(tmp_path / "backend", clock) as there:
            await there.user()
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backend").rglob("*")}
    finally:
        os.umask(before)
    secret = {path: mode for path, mode in found.items() if path.parent.name == "keys" or ".db" in path.name}
    folders = {path: mode for path, mode in found.items() if path.is_dir()}
    public = {path: mode for path, mode in folders.items() if "static" in path.parts}
    assert set(public.values()) == {0o755}, "what a web server may hand out"
    assert {mode for path, mode in folders.items() if path not in public} == {0o700}
    assert set(secret.values()) == {0o600}
    assert {path.name for path in secret} >= {
        "chain",
        "seal",
        "server",
        "credential",
        "issuer-1",
        "group-1",
        "server.db",
    }
    assert {path.name for path in found} >= {"authority.db-wal"}


async def test_nothing_telling_is_stored(there: World) -> None:
    """Neither an address nor a code nor an invitation, in any byte of any file that grows."""
    code = await there.code()
    body = await there.join_body(invitation := await there.invite(), 5)
    await there.send_join(body)
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    assert (await there.declare(left, code, [(met, record)])).accepted
    folder = there.backend.folder
    written = {path.name: path.read_bytes() for path in folder.rglob("*.db*")}
    for text in (code, code.replace("-", ""), invitation, invitation.replace("-", "")):
        assert not any(text.encode() in data for data in written.values())
    assert not any(b"127.0.0.1" in data for name, data in written.items() if name.startswith("server"))
    assert not any(met.secret in data for data in written.values())
    of_authority = b"".join(data for name, data in written.items() if name.startswith("authority"))
    assert met.ccm not in of_authority
    assert not list((folder / "proxy-group-1-1").glob("*.db*")), "a proxy keeps no state"


async def test_logs_tell_nothing(there: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    code, invitation = await there.code(), await there.invite()
    await there.send_join(await there.join_body(invitation, 5))
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    assert (await there.declare(left, code, [(met, record)])).accepted
    await there.declare(left, code, [(met, record)])
    async with there.asking.post(there.proxies[0] + "/v1/submission", data=b"\xff") as response:
        assert response.status == 400
    reader, writer = await asyncio.open_connection("127.0.0.1", int(there.proxies[0].rpartition(":")[2]))
    writer.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    said = "\n".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
    for secret in (code, invitation, code.replace("-", ""), met.ccm.hex(), str(met.ccm), record.nullifier.hex()):
        assert secret not in said
    assert "127.0.0.1" not in said
    assert "was accepted" in said


async def test_a_missing_or_cut_key_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        keys.read_server(tmp_path)
    keys.write(tmp_path, "server", b"short")
    with pytest.raises(StorageError, match="5 bytes instead of 32"):
        keys.read_server(tmp_path)
    keys.write(tmp_path, "server", b"\xff" * 32)
    with pytest.raises(StorageError, match="damaged"):
        keys.read_server(tmp_path)
    keys.write(tmp_path, "credential", bytes(31) + b"\x01" + b"\xff" * 96)
    with pytest.raises(StorageError, match="damaged"):
        keys.read_credential(tmp_path, CURVE)


async def test_a_missing_database_of_the_authority_is_not_made_anew(tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "backend", clock)
    (tmp_path / "backend" / "authority" / "authority.db").unlink()
    with pytest.raises(StorageError, match="is missing"):
        async with authority.opened(tmp_path / "backend" / "authority", clock):
            pass


async def test_a_damaged_database_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="does not work"):
        async with db.opened(tmp_path / "server.db", tables.SERVER):
            pass


async def test_a_transaction_is_undone_on_an_error(tmp_path: Path) -> None:
    async def twice(connection: AsyncConnection) -> None:
        row = {"ccm": Encounter().ccm, "nullifier": bytes(48), "day": 1}
        await connection.execute(insert(tables.submissions).values(row))
        await connection.execute(insert(tables.submissions).values(row))

    async def rows(connection: AsyncConnection) -> Sequence[Row[Any]]:
        return (await connection.execute(tables.submissions.select())).all()

    async with db.opened(tmp_path / "server.db", tables.SERVER) as database:
        with pytest.raises(db.Taken):
            await database.run(twice)
        assert not await database.run(rows)


@pytest.mark.parametrize(
    "text",
    ["", "port = 1", "port = 'x'", "= 1", 'port = 8700\nhost = "a"\nother = 1', "x = " + "[" * 4000],
    ids=["empty", "few", "text", "no name", "unknown", "deep"],
)
def test_settings_without_sense(tmp_path: Path, text: str) -> None:
    (tmp_path / settings.FILE).write_text(text)
    with pytest.raises(Misuse, match="makes no sense"):
        settings.read(settings.ServerSettings, tmp_path)


def test_settings_come_back_as_written(tmp_path: Path) -> None:
    told = settings.AuthoritySettings(port=1, name='Gesundheitsamt "Süd" \\ \u2028 🦠', public_url="http://x")
    settings.write(tmp_path, told)
    assert settings.read(settings.AuthoritySettings, tmp_path) == told
