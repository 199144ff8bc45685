"""Long lists are checked in processes of their own: none of them lost, and nobody else held up."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from backend_stub.authority import groups, progress, report
from backend_stub.authority.workers import Workers
from backend_stub.keyring import keys
from protocol import contact, declaration, messages
from protocol.errors import Unreachable
from tests.backend_stub.support import CURVE, Encounter, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend_stub.authority.service import Authority, Current
    from protocol.messages import ContactRecord
    from tests.backend_stub.support import User, World

LONG = 3 * report.AT_ONCE + 1  # contacts: several pieces


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """No test leaves a worker behind."""
    yield
    assert not multiprocessing.active_children()


async def made(there: World, user: User, count: int) -> list[tuple[Encounter, ContactRecord]]:
    """So many contacts of a user, signed with the keys in the backend's folders."""
    folder, known = there.backend.folder, await there.keys()
    server, proxy = keys.read_server(folder / "server"), keys.read_credential(folder / "proxy-group-1-1", CURVE)
    day, found = there.clock.today, []
    for met in (Encounter() for _ in range(count)):
        issuer = known.issuer(user.issuer)
        ticket = there.ticket(user)
        one = contact.submit(CURVE, secrets.token_bytes, user.credential, issuer, user.issuer, met.ccm, day, ticket)
        signature = contact.sign_partially(CURVE, server, met.ccm, day, contact.nullifier_of(one))
        partial = messages.Partial(server=1, signature=signature)
        key = known.signers.group("group-1", day)
        found.append((met, contact.extend(secrets.token_bytes, proxy, "group-1", key, one, partial)))
    return found


async def under_way(there: World) -> dict[str, int]:
    async with there.office() as office, office.database.transaction() as connection:
        return await progress.under_way(connection, there.clock.now())


async def begun(there: World) -> bool:
    """Whether a piece of a long report is done, and not all of it."""
    found = await under_way(there)
    return 0 < found["contacts_checked"] < found["contacts_under_way"]


async def test_a_long_report_survives_its_workers_and_holds_nobody_up(
    there: World, caplog: pytest.LogCaptureFixture
) -> None:
    user = await there.user()
    declaring = asyncio.create_task(there.declare(user, await there.code(), await made(there, user, LONG)))
    await eventually(lambda: begun(there))
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGKILL)
    await there.user()
    assert (await under_way(there))["reports_under_way"] == 1, "somebody joined before it was done"
    assert (await declaring).accepted
    assert "what it was at is done again" in caplog.text
    assert f"{LONG} contacts of a report of {LONG} were checked" in caplog.text
    assert not any((await under_way(there)).values())


async def test_a_stop_lets_a_report_end(there: World) -> None:
    user = await there.user()
    declaring = asyncio.create_task(there.declare(user, await there.code(), await made(there, user, LONG)))
    await eventually(lambda: begun(there))
    await there.backend.stop("authority")
    assert (await declaring).accepted


async def test_a_report_that_comes_twice_is_checked_once(there: World, caplog: pytest.LogCaptureFixture) -> None:
    user = await there.user()
    declaring = await there.report(user, await there.code(), await made(there, user, 3))
    answers = await asyncio.gather(*(there.send_report(declaring) for _ in range(5)))
    assert len(set(answers)) == 1
    assert declaration.open_receipt(answers[0], declaring.reply_key).accepted
    assert caplog.text.count("were checked in") == 1


async def test_a_proxy_removed_while_a_report_is_checked_counts(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment that counts is that of the acceptance."""
    user = await there.user()
    check = report._check

    async def check_and_remove(authority: Authority, opened: report.Opened, current: Current, shown: object) -> object:
        grounds = await check(authority, opened, current, shown)  # type: ignore[arg-type]
        if not grounds.removed:
            await groups.remove(authority, "group-1-1")
        return grounds

    monkeypatch.setattr(report, "_check", check_and_remove)
    receipt = await there.declare(user, await there.code(), await made(there, user, 2))
    assert (receipt.accepted, receipt.problem) == (False, "contacts")
    assert receipt.reasons == bytes([declaration.Reason.REMOVED] * 2)


async def test_work_is_done_in_other_processes_and_its_errors_come_back() -> None:
    async with Workers(2) as workers:
        pids = await asyncio.gather(*(workers.run(os.getpid) for _ in range(4)))
        assert os.getpid() not in pids
        assert len(set(pids)) <= 2
        with pytest.raises(ValueError, match="invalid literal"):
            await workers.run(int, "x")
        with pytest.raises(Unreachable, match="try again later"):
            await workers.run(os.abort)
        assert await workers.run(abs, -1) == 1


async def test_without_workers_a_thread_does_it() -> None:
    async with Workers(0) as workers:
        assert await workers.run(os.getpid) == os.getpid()


ORPHAN = """
import asyncio, os, time
from backend_stub.authority.workers import Workers

async def main():
    async with Workers(1) as workers:
        print(await workers.run(os.getpid), flush=True)
        await workers.run(time.sleep, 60)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_workers_end_with_who_began_them(tmp_path: os.PathLike[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 30
    while _runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
