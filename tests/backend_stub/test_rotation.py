"""Replacing keys: by command, interrupted, and with what members need to renew. With agents: tests/end_to_end."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from typing import TYPE_CHECKING, Any

import pytest

from backend_stub import cli
from backend_stub.authority import chains, join, rotation
from backend_stub.authority import service as authority
from backend_stub.keyring import keys
from backend_stub.storage import tables
from protocol import credential, messages
from protocol.errors import CodeRefused, Misuse, Refused, StorageError, Unreachable
from tests.backend_stub import support
from tests.backend_stub.support import CURVE, Encounter
from tests.backend_stub.test_forgetting import count

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backend_stub.support import ManualClock, User, World

KEYS = (["issuer"], ["server"], ["group", "group-1"], ["proxy", "group-1-1"], ["publication"], ["seal"], ["chain"])


def _said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["spot-backend", *map(str, arguments), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    return json.loads(capsys.readouterr().out)


def test_every_key_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _said(monkeypatch, capsys, "init", tmp_path / "demo", "--port", 0)
    for number, key in enumerate(KEYS):
        said = _said(monkeypatch, capsys, "rotate", tmp_path / "demo", *key)
        assert said["key"] == key[0]
        assert said["parameters"] > number
        assert said["next"]
    for again in (["issuer"], ["server"], ["group", "group-1"]):
        assert _said(monkeypatch, capsys, "rotate", tmp_path / "demo", *again)["error"] == "misuse"
    for wrong in (["group"], ["seal", "group-1"], ["group", "north"], ["proxy", "north"]):
        assert _said(monkeypatch, capsys, "rotate", tmp_path / "demo", *wrong)["error"] == "misuse"
    listed = {
        one["key"]: one for one in _said(monkeypatch, capsys, "status", tmp_path / "demo")["authority"]["key_ages"]
    }
    assert {"chain", "seal", "server 1", "server 2", "issuer 1", "issuer 2", "group group-1-k2"} <= set(listed)
    assert listed["server 1"]["until_day"] is not None
    assert listed["server 2"]["until_day"] is None
    monkeypatch.setattr(sys, "argv", ["spot-backend", "status", str(tmp_path / "demo")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "key server 2" in capsys.readouterr().out


def test_the_key_of_a_server_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _said(monkeypatch, capsys, "init", tmp_path / "demo", "--port", 0)
    server = tmp_path / "elsewhere"
    (tmp_path / "demo" / "server").rename(server)
    assert _said(monkeypatch, capsys, "rotate", tmp_path / "demo", "server")["error"] == "misuse"
    public = _said(monkeypatch, capsys, "server", "new-key", server)["public"]
    assert _said(monkeypatch, capsys, "rotate", tmp_path / "demo", "server", "--public", public)["parameters"] == 1
    assert len(list((server / "keys").glob("server*"))) == 2


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[0])
async def test_what_is_interrupted_can_be_begun_again(
    there: World, key: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret is stored and nothing announced: all goes on with the old key, and a second try brings the new one."""

    async def interrupted(*_: object) -> None:
        raise StorageError("the machine went down")

    folder = there.backend.folder
    before = (await there.trusted()).parameters
    with monkeypatch.context() as broken:
        broken.setattr(chains, "change", interrupted)
        with pytest.raises(StorageError):
            await _rotate(there, key)
    await _contact_and_declaration(there)
    assert (await there.trusted()).parameters == before
    await _rotate(there, key)
    await there.follow(1)
    there.clock.pass_by(seconds=2 * rotation.AHEAD)
    await support.ready(there)
    await _contact_and_declaration(there)
    assert folder.exists()


async def _rotate(there: World, key: list[str]) -> None:
    folder = there.backend.folder
    async with there.office() as office:
        match key:
            case ["server"]:
                await rotation.rotate_server(
                    office, rotation.new_server_secret(CURVE, office.random, folder / "server")
                )
            case ["group", name]:
                await rotation.rotate_group(office, folder, name)
            case ["proxy", name]:
                await rotation.rotate_proxy(office, folder, name)
            case [name]:
                await getattr(rotation, f"rotate_{name}")(office)


async def _contact_and_declaration(there: World) -> None:
    one, other = await there.pair()
    contact = await there.meet(one, other)
    assert (await there.declare(one, await there.code(), [contact])).accepted
    await there.publish()


def test_a_secret_that_cannot_be_destroyed_is_said_so(tmp_path: Path) -> None:
    (tmp_path / keys.FOLDER / "server").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be deleted"):
        keys.destroy(tmp_path, "server")


async def test_a_server_without_its_new_secret_signs_nothing_until_it_has_it(there: World, clock: ManualClock) -> None:
    """What was announced too early is late, and nothing worse."""
    elsewhere = there.backend.folder / "elsewhere"
    elsewhere.mkdir()
    async with there.office() as office:
        public = rotation.new_server_secret(CURVE, office.random, elsewhere)
        await rotation.rotate_server(office, public)
        with pytest.raises(Misuse, match="announced already"):
            await rotation.rotate_server(office, public)
    await there.follow(1)
    clock.pass_by(seconds=rotation.AHEAD)
    one, other = await there.pair()
    met = Encounter()
    with pytest.raises(Unreachable):
        await there.submit(one, met)
    (secret,) = (elsewhere / "keys").iterdir()
    secret.rename(there.backend.folder / "server" / "keys" / secret.name)
    await there.submit(other, met)
    record = await there.submit(one, met)
    assert record is not None
    assert record.server == 2


async def _renewal(there: World, secret: int, issuer: int = 1) -> bytes:
    key = (await there.keys()).issuer(issuer)
    request = credential.join(CURVE, secrets.token_bytes, secret, key, await there.nonce())
    return messages.encode(messages.Renewal(issuer=issuer, join=request))


async def _send(there: World, body: bytes) -> bytes:
    return await there.send("POST", there.backend.authority + messages.RENEWAL_PATH, body)


async def _next_issuer(there: World, clock: ManualClock) -> None:
    async with there.office() as office:
        await rotation.rotate_issuer(office)
    await there.follow(1)
    clock.pass_by(days=1)


async def test_a_member_renews_on_the_same_secret_key(there: World, clock: ManualClock) -> None:
    user = await there.user()
    await _next_issuer(there, clock)
    body = await _renewal(there, user.credential.secret, 2)
    first = await _send(there, body)
    issued = messages.decode(messages.Issued, first)
    credential.accept(CURVE, user.credential.secret, (await there.keys()).issuer(2), issued)
    assert await _send(there, await _renewal(there, user.credential.secret, 2)) == first, "one an issuer, for ever"
    assert len(set(await asyncio.gather(*(_send(there, body) for _ in range(3))))) == 1


async def test_nobody_else_renews(there: World, clock: ManualClock) -> None:
    user: User = await there.user()
    await _next_issuer(there, clock)
    stranger = credential.new_secret(secrets.token_bytes)
    with pytest.raises(Refused, match="no member"):
        await _send(there, await _renewal(there, stranger, 2))
    stolen = messages.decode(messages.Renewal, await _renewal(there, stranger, 2))
    public = (user.credential.secret * CURVE.g1).encode()
    claimed = messages.encode(messages.Renewal(issuer=2, join=_with_public(stolen.join, public)))
    with pytest.raises(Refused, match="does not prove"):
        await _send(there, claimed)
    body = await _renewal(there, user.credential.secret, 2)
    clock.pass_by(seconds=join.NONCE_SECONDS + 1)
    with pytest.raises(Refused, match="not one of the last minutes"):
        await _send(there, body)


def _with_public(request: messages.JoinRequest, public: bytes) -> messages.JoinRequest:
    return messages.JoinRequest(nonce=request.nonce, public=public, challenge=request.challenge, answer=request.answer)


async def test_who_was_ended_renews_no_more(there: World, clock: ManualClock) -> None:
    secret, invitation = credential.new_secret(secrets.token_bytes), await there.invite()
    await there.send_join(await there.join_body(invitation, secret))
    async with there.office() as office:
        await join.end(office, invitation)
        await join.end(office, invitation)
        with pytest.raises(Misuse, match="nobody joined"):
            await join.end(office, "ABCD-EFGH-IJKL-2345")
    await _next_issuer(there, clock)
    with pytest.raises(Refused, match="not any more"):
        await _send(there, await _renewal(there, secret, 2))


async def test_who_is_erased_leaves_nothing_and_neither_renews_nor_comes_back(there: World, clock: ManualClock) -> None:
    secret, invitation = credential.new_secret(secrets.token_bytes), await there.invite()
    body = await there.join_body(invitation, secret)
    await there.send_join(body)
    other = await there.user()
    await _next_issuer(there, clock)
    await _send(there, await _renewal(there, secret, 2))
    async with there.office() as office:
        await join.end(office, invitation, erase=True)
        with pytest.raises(Misuse, match="nobody joined"):
            await join.end(office, invitation, erase=True)
        about_people = (tables.members, tables.credentials, tables.ended, tables.invitations)
        assert [await count(office, table) for table in about_people] == [1, 0, 0, 1], "the other member's"
    with pytest.raises(Refused, match="no member"):
        await _send(there, await _renewal(there, secret, 2))
    with pytest.raises(CodeRefused, match="no such invitation"):
        await there.send_join(body)
    await _send(there, await _renewal(there, other.credential.secret, 2))


async def test_who_was_gone_for_too_long_joins_again(there: World, clock: ManualClock) -> None:
    user = await there.user()
    await _next_issuer(there, clock)
    await _send(there, await _renewal(there, user.credential.secret, 2))
    async with authority.opened(there.backend.folder / "authority", clock) as office:
        for _ in range(40):
            clock.pass_by(days=14)
            await chains.renew(office)
        number = max(one.number for one in (await office.current()).trusted.parameters.issuers)
    with pytest.raises(
        Refused, match=r"renewed for too long|no member"
    ):  # as the member is forgotten meanwhile, or not
        await _send(there, await _renewal(there, user.credential.secret, number))


async def test_who_is_no_member_has_no_credential_made(
    there: World, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _next_issuer(there, clock)
    body = await _renewal(there, credential.new_secret(secrets.token_bytes), 2)
    monkeypatch.setattr(join, "_issued", None)
    with pytest.raises(Refused, match="no member"):
        await _send(there, body)
