"""A backup, restored elsewhere: whole or not at all, and what is older than the present does no harm."""

# ruff: noqa: ASYNC240 - the files are the test's own

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyrage
import pytest

from agent import transport
from backend_stub.authority import chains, join, rotation
from backend_stub.authority import service as authority
from backend_stub.commands import backup as commands
from backend_stub.keyring import age, keys, sealing
from backend_stub.operations import backup, restoring
from backend_stub.operations.restoring import Choice
from backend_stub.operations.running import running
from protocol import messages
from protocol.errors import KeyChanged, Malformed, Misuse, SpotError, StorageError, Unreachable
from tests.backend_stub import support
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from scripts.postgres import Cluster

PASSPHRASE = b"correct horse"
ALONE = Choice(nothing_newer=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "WORK", 4)
    monkeypatch.setattr(sealing, "WORK", 4)
    monkeypatch.setattr(backup, "ROWS", 3)  # several pieces a table
    sealing.forget()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made.age"


async def back_up(there: World, file: Path) -> backup.Manifest:
    return await backup.write(there.backend.folder, file, PASSPHRASE, there.clock.now())


async def goes_on(there: World, tmp_path: Path, choice: Choice) -> None:
    """Submissions and declarations go on while backups are made; later everybody goes on with what was restored."""
    left, right = await there.pair()
    pending = Encounter()
    assert await there.submit(left, pending) is None
    met, record = await there.meet(left, right)
    assert (await there.declare(left, await there.code(), [(met, record)])).accepted
    await there.publish()
    published = await there.publications()
    before = await there.trusted()
    await _back_up_under_load(there, left, right, tmp_path / "made.age")
    await there.backend.stop_all()
    done = await restoring.restore(tmp_path / "made.age", tmp_path / "elsewhere", PASSPHRASE, choice)
    assert done.parts == ("authority", "proxy-group-1-1", "proxy-group-2-1", "server")
    assert done.rows["server/submissions"] >= 5
    async with support.world(tmp_path / "elsewhere", there.clock) as again:
        assert await again.trusted() == before
        assert (await again.publications())[: len(published)] == published
        assert await again.submit(right, pending) is not None, "the server remembers the other side"
        newcomer = await again.user()
        fresh, its_record = await again.meet(newcomer, left)
        assert (await again.declare(newcomer, await again.code(), [(fresh, its_record)])).accepted
        count = len(await again.publications())
        await again.publish()
        assert len(await again.publications()) == count + 1


async def _back_up_under_load(there: World, left: support.User, right: support.User, file: Path) -> None:
    stop = asyncio.Event()
    done: list[object] = []

    async def load() -> None:
        while not stop.is_set():
            met, record = await there.meet(left, right)
            receipt = await there.declare(left, await there.code(), [(met, record)])
            assert receipt.accepted
            done.append(receipt)

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        for _ in range(2):  # the second one overwrites nothing, so the first is out of its way
            file.unlink(missing_ok=True)
            seen = len(done)
            await back_up(there, file)
            await support.eventually(partial(_more, done, seen + 1))
        stop.set()


async def _more(done: list[object], count: int) -> bool:
    return len(done) >= count


async def test_under_load_and_restored_elsewhere(there: World, tmp_path: Path) -> None:
    await goes_on(there, tmp_path, ALONE)


@pytest.mark.parametrize(("source", "target"), [(True, True), (False, True), (True, False)])
async def test_from_one_kind_of_database_to_another(
    tmp_path: Path, clock: support.ManualClock, postgres: Cluster, source: bool, target: bool
) -> None:
    """Whether it is PostgreSQL or SQLite, before and after."""
    plan = replace(support.PLAN, database=await asyncio.to_thread(postgres.fresh) if source else "")
    url = await asyncio.to_thread(postgres.fresh) if target else ""
    await support.found(tmp_path / "backend", clock, plan)
    async with support.world(tmp_path / "backend", clock) as there:
        await goes_on(there, tmp_path, Choice(nothing_newer=True, database=url))
    if target:
        again = Choice(nothing_newer=True, database=url)
        with pytest.raises(Misuse, match="has a backend in it"):
            await restoring.restore(tmp_path / "made.age", tmp_path / "more", PASSPHRASE, again)


async def test_the_chains_go_on_where_the_world_saw_them(there: World, made: Path, tmp_path: Path) -> None:
    """Links signed after the backup come from a proxy, while the authority is gone; nothing is signed twice."""
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    other, its_record = await there.meet(left, right)
    assert (await there.declare(left, await there.code(), [(met, record)])).accepted
    await back_up(there, made)  # its tokens wait, to be published after it
    await there.publish()
    async with there.office() as office:
        await office.database.run(lambda connection: chains.change(office, connection, lambda now: now))
    await there.follow(1)
    seen_parameters = await there.trusted(there.proxies[0])
    seen = await there.publications(there.proxies[0])  # as agents do, so that the proxy keeps them
    await there.send("GET", there.proxies[0] + "/v1/parameters/1")
    await there.backend.stop("authority")

    nowhere = tmp_path / "nowhere"
    with pytest.raises(Misuse, match="--links-from"):
        await restoring.restore(made, nowhere, PASSPHRASE, Choice())
    with pytest.raises(Unreachable, match="has the links"):
        await restoring.restore(made, nowhere, PASSPHRASE, Choice(links_from=["http://127.0.0.1:9"]))
    assert not nowhere.exists()
    done = await restoring.restore(made, tmp_path / "again", PASSPHRASE, Choice(links_from=[there.proxies[0]]))
    assert done.links == 2
    await there.backend.stop_all()
    async with support.world(tmp_path / "again", there.clock) as again:
        assert await again.trusted() == seen_parameters
        assert await again.publications() == seen
        assert (await again.declare(left, await again.code(), [(other, its_record)])).accepted
        await again.publish()
        later = await again.publications()
        assert later[: len(seen)] == seen
        tokens = [day.tokens for batch in later for day in batch.days]
        assert len(tokens) == len(set(tokens)), "what waited in the backup was out already"


async def test_a_gap_in_what_proxies_kept_is_refused(there: World, made: Path, tmp_path: Path) -> None:
    """Somebody saw a later link; the one that is missing would be signed a second time."""
    await back_up(there, made)
    async with there.office() as office:
        for _ in range(3):
            await office.database.run(lambda connection: chains.change(office, connection, lambda now: now))
    for number in (0, 3):  # as if agents had asked this proxy for these alone
        await there.send("GET", there.proxies[0] + messages.PARAMETERS_PATH.format(number=number))
    await there.backend.stop("authority")
    with pytest.raises(Unreachable, match="has link 3 of the parameters, and nobody has link 1"):
        await restoring.restore(made, tmp_path / "again", PASSPHRASE, Choice(links_from=there.proxies))


async def test_a_source_that_knows_of_more_or_of_another_chain(there: World, made: Path, tmp_path: Path) -> None:
    await back_up(there, made)
    other = tmp_path / "other"
    await support.found(other, there.clock)
    async with support.world(other, there.clock) as stranger:
        with pytest.raises((KeyChanged, Unreachable)):
            await restoring.restore(
                made, tmp_path / "again", PASSPHRASE, Choice(links_from=[stranger.backend.authority])
            )
    assert not (tmp_path / "again").exists()


async def test_newer_links_over_tls_and_the_keys_that_are_lost(
    tmp_path: Path, clock: support.ManualClock, made: Path
) -> None:
    """The source is believed by the backup's own root only; what was made after the backup is named."""
    folder = tmp_path / "backend"
    await support.found(folder, clock, replace(support.PLAN, tls=True))
    async with running(folder, clock) as backend:
        await backup.write(folder, made, PASSPHRASE, clock.now())
        async with authority.opened(folder / "authority", clock) as office:
            await rotation.rotate_seal(office)
        source = backend.proxies["proxy-group-1-1"]
        for number in range(2):  # as agents do, so that the proxy keeps it
            await transport.get(source, messages.PARAMETERS_PATH.format(number=number), transport.UNCHECKED)
        done = await restoring.restore(made, tmp_path / "again", PASSPHRASE, Choice(links_from=[source]))
        assert (done.links, done.lost) == (1, ["seal"])
        other = tmp_path / "other"
        await support.found(other, clock, replace(support.PLAN, tls=True))
        async with running(other, clock) as stranger:
            choice = Choice(links_from=[stranger.proxies["proxy-group-1-1"]])
            with pytest.raises(Unreachable, match="has the links"):
                await restoring.restore(made, tmp_path / "more", PASSPHRASE, choice)
        async with authority.opened(folder / "authority", clock) as office:
            await rotation.rotate_chain(office)
        choice = Choice(links_from=[backend.authority])
        with pytest.raises(KeyChanged, match="take a newer backup"):
            await restoring.restore(made, tmp_path / "more", PASSPHRASE, choice)
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("how", ["at the server's rows", "twice the same row"])
async def test_a_postgres_that_could_not_be_filled_is_left_empty(
    there: World, made: Path, tmp_path: Path, postgres: Cluster, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = await there.pair()
    await there.meet(left, right)
    await back_up(there, made)
    choice = Choice(nothing_newer=True, database=await asyncio.to_thread(postgres.fresh))
    insert = restoring._Filling._insert

    async def broken(self: restoring._Filling, connection: AsyncConnection, entry: backup.Entry) -> None:
        await insert(self, connection, entry)
        if entry.part == "server":
            if how == "twice the same row":
                await insert(self, connection, entry)
            raise StorageError("the disk is full")

    monkeypatch.setattr(restoring._Filling, "_insert", broken)
    with pytest.raises(StorageError):
        await restoring.restore(made, tmp_path / "again", PASSPHRASE, choice)
    assert not (tmp_path / "again").exists()
    monkeypatch.undo()
    monkeypatch.setattr(age, "WORK", 4)
    done = await restoring.restore(made, tmp_path / "again", PASSPHRASE, choice)
    assert done.rows["server/submissions"] == 2


async def test_unused_codes_and_invitations_are_withdrawn(there: World, made: Path, tmp_path: Path) -> None:
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    code, invitation = await there.code(), await there.invite()
    await back_up(there, made)
    await there.backend.stop_all()
    for keep in (False, True):
        home = tmp_path / f"kept-{keep}"
        done = await restoring.restore(made, home, PASSPHRASE, Choice(nothing_newer=True, keep_codes=keep), there.clock)
        assert done.withdrawn == (0 if keep else 2)
        async with support.world(home, there.clock) as again:
            receipt = await again.declare(left, code, [(met, record)])
            assert receipt.accepted is keep
            body = await again.join_body(invitation, 5)
            if keep:
                await again.send_join(body)
            else:
                assert receipt.problem == "code-expired"
                with pytest.raises(SpotError, match="expired"):
                    await again.send_join(body)


async def test_restore_says_that_memberships_must_be_ended_again(there: World, made: Path, tmp_path: Path) -> None:
    """A lost device that was ended after the backup renews again, until somebody ends it again."""
    invitation = await there.invite()
    await there.send_join(await there.join_body(invitation, 5))
    await back_up(there, made)
    async with there.office() as office:
        await join.end(office, invitation)
    await there.backend.stop_all()
    done = await restoring.restore(made, tmp_path / "again", PASSPHRASE, ALONE, there.clock)
    said = "\n".join(commands._said(done, tmp_path / "again"))
    assert "end them again: spot-backend end" in said
    assert "joined after" in said


async def test_sealed_keys_stay_sealed_inside(there: World, made: Path, tmp_path: Path) -> None:
    folder = there.backend.folder
    await there.backend.stop_all()
    for part in there.backend.parts:
        sealing.seal_all(folder / part, b"another passphrase")
    secrets = [keys.read(folder / part, name) for part in there.backend.parts for name in sealing.names(folder / part)]
    sealing.forget()
    await back_up(there, made)  # needs no key
    opened = pyrage.passphrase.decrypt(made.read_bytes(), PASSPHRASE.decode())
    for secret in secrets:
        assert secret not in made.read_bytes()
        assert secret not in opened
    done = await restoring.restore(made, tmp_path / "again", PASSPHRASE, ALONE)
    assert done.sealed
    with pytest.raises(sealing.Locked):
        keys.read_server(tmp_path / "again" / "server")


async def test_what_another_tool_sees(there: World, made: Path) -> None:
    """The file is in the age format; plain keys are inside the seal only."""
    await back_up(there, made)
    assert made.stat().st_mode & 0o777 == 0o600
    folder = there.backend.folder
    secret = keys.read(folder / "authority", "chain")
    assert secret not in made.read_bytes()
    opened = io.BytesIO(pyrage.passphrase.decrypt(made.read_bytes(), PASSPHRASE.decode()))
    with tarfile.open(fileobj=opened) as archive:
        names = archive.getnames()
    assert names[0] == backup.MANIFEST
    assert "authority/files/keys/chain" in names
    assert "authority/files/settings.toml" in names
    assert not any(name.endswith((".db", ".db-wal")) for name in names)


async def test_cut_or_altered_nothing_is_left_behind(there: World, made: Path, tmp_path: Path) -> None:
    await there.pair()
    await back_up(there, made)
    whole = made.read_bytes()
    made.chmod(0o600)
    home = tmp_path / "again"
    places = [0, 30, 150, 200, 1000, len(whole) // 2, len(whole) - 1]
    broken = [whole[:at] for at in places] + [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for data in [*broken, whole + b"x", b"", os.urandom(500)]:
        made.write_bytes(data)
        with pytest.raises((Malformed, sealing.Locked)):
            await restoring.restore(made, home, PASSPHRASE, ALONE)
        assert sorted(tmp_path.iterdir()) == sorted([made, there.backend.folder])
    made.write_bytes(whole)
    with pytest.raises(sealing.Locked, match="not the passphrase"):
        await restoring.restore(made, home, b"wrong horse", ALONE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(Misuse, match="not empty"):
        await restoring.restore(made, tmp_path / "full", PASSPHRASE, ALONE)
    with pytest.raises(Misuse, match="overwrites nothing"):
        await back_up(there, made)
    assert made.read_bytes() == whole


def _archive(file: Path, members: dict[str, bytes]) -> None:
    with file.open("wb") as out:
        writer = age.Writer(out, PASSPHRASE, os.urandom)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, data in members.items():
                backup._add(archive, name, data)
        writer.write(packed.getvalue())
        writer.close()


MANIFEST = b'{"format": 1, "made_at": 0, "parts": ["server"]}'


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"other": b""},
        {"manifest.json": b"{}"},
        {"manifest.json": b'{"\xff": 1}'},
        {"manifest.json": b'{"x":' + b"[" * 4000},
        {"manifest.json": b'{"format": 1, "made_at": 0, "parts": [".."]}'},
        {"manifest.json": b'{"format": 2, "made_at": 0, "parts": ["server"]}'},
        {"manifest.json": MANIFEST, "server/files/../../evil": b"x"},
        {"manifest.json": MANIFEST, "/etc/evil": b"x"},
        {"manifest.json": MANIFEST, "server/files//evil": b"x"},
        {"manifest.json": MANIFEST, "proxy/files/evil": b"x"},
        {"manifest.json": MANIFEST, "server/tables/submissions/0": b"x"},
        {"manifest.json": MANIFEST, "server/tables/submissions/0": b"\x81\xa1x" + b"\x91" * 4000},
        {"manifest.json": MANIFEST, "server/tables/others/0": b"x"},
    ],
)
async def test_what_does_not_belong_in_a_backup(made: Path, tmp_path: Path, members: dict[str, bytes]) -> None:
    _archive(made, members)
    with pytest.raises((Malformed, Misuse)):
        await restoring.restore(made, tmp_path / "again", PASSPHRASE, ALONE)
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize("size", [0, 1, age.CHUNK - 1, age.CHUNK, age.CHUNK + 1, 3 * age.CHUNK])
def test_the_age_format_both_ways(size: int) -> None:
    data, file = os.urandom(size), io.BytesIO()
    writer = age.Writer(file, PASSPHRASE, os.urandom)
    for at in range(0, size, 10_000):
        writer.write(data[at : at + 10_000])
    writer.close()
    assert pyrage.passphrase.decrypt(file.getvalue(), PASSPHRASE.decode()) == data
    if size == 1:
        theirs = io.BytesIO(pyrage.passphrase.encrypt(data, PASSPHRASE.decode()))
        assert age.Reader(theirs, PASSPHRASE, "theirs").read(size) == data


def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "passphrase").chmod(0o600)
    given = ("--passphrase-file", tmp_path / "passphrase")

    def run(*arguments: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from backend_stub.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout, done.stderr

    assert run("init", tmp_path / "demo", "--port", 0, "--groups", 1)[0] == 0
    code, out, err = run("backup", tmp_path / "demo", tmp_path / "made.age", *given)
    assert code == 0, err
    assert "authority, proxy-group-1-1, server" in out
    code, out, err = run("restore", tmp_path / "made.age", tmp_path / "again", *given)
    assert (code, err.count("\n")) == (2, 1)
    assert "--nothing-newer" in err
    code, out, err = run("restore", tmp_path / "made.age", tmp_path / "again", "--nothing-newer", *given)
    assert code == 0, err
    assert "restored authority" in out
    assert run("invite", tmp_path / "again")[0] == 0
    code, _, err = run("restore", tmp_path / "made.age", tmp_path / "more", "--nothing-newer")
    assert (code, err.count("\n")) == (2, 1)
