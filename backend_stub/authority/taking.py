"""Taking reports: each is answered at a moment that its size alone fixes, whether its checks are over by then or not.

So the moment tells nothing of what is in a report, however busy the machine is. Who gets no outcome sends the same
report again later. Dummies are taken in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend_stub.authority import report
from backend_stub.network import pacing
from protocol import declaration, messages
from protocol.errors import SpotError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from backend_stub.authority.report import Opened, Reply
    from backend_stub.authority.service import Authority
    from protocol.messages import SealedReport

log = logging.getLogger(__name__)

PACE = 0.1 / messages.REPORT_CLASSES[0]  # real seconds a byte: about what checking so many contacts takes


@dataclass(frozen=True, slots=True)
class Taken:
    """A report that is being checked. due: the event loop's time to answer it."""

    reply: Reply
    checks: asyncio.Task[bytes | None]
    due: float

    async def answer(self) -> bytes:
        """The sealed answer, when it is due: the outcome, if there is one."""
        await pacing.wait(self.due)
        outcome = self.checks.result() if self.checks.done() and not self.checks.cancelled() else None
        return outcome or self.reply.seal(declaration.CHECKING)


async def take(authority: Authority, sealed: SealedReport, room: ExitStack) -> Taken:
    """Begin to check a report, which goes on until it is over. Raises NotMine or Malformed where it cannot be opened.

    room: what the report takes up, given back once it is checked; who waits for the answer holds nothing of it.
    """
    opened = await report.unseal(authority, sealed)
    # From here on: a report that was checked gets its answer, however long machines under load take to open it.
    due = asyncio.get_running_loop().time() + authority.told.declaration_wait + len(sealed.sealed) * PACE
    # What comes again while it is checked waits for the same checks.
    checks = authority.under_way.get(opened.digest) or _begin(authority, opened, room.pop_all().close)
    return Taken(opened.reply, checks, due)


def _begin(authority: Authority, opened: Opened, over: Callable[[], None]) -> asyncio.Task[bytes | None]:
    checks = asyncio.create_task(_check(authority, opened))
    digest = opened.digest
    authority.under_way[digest] = checks

    def done(_checks: asyncio.Task[bytes | None]) -> None:
        del authority.under_way[digest]
        over()

    checks.add_done_callback(done)
    return checks


async def _check(authority: Authority, opened: Opened) -> bytes | None:
    """The answer; None where it could not be found, of which the operator reads."""
    try:
        return await report.answer(authority, opened)
    except SpotError as error:
        log.warning("a report could not be checked; its sender sends it again: %s", error.text)
    except Exception:
        log.exception("a report could not be checked, in a way nobody thought of; its sender sends it again")
    return None


async def stop(authority: Authority) -> None:
    """Give up what is being checked: its senders send it again."""
    checks = list(authority.under_way.values())
    for one in checks:
        one.cancel()
    await asyncio.gather(*checks, return_exceptions=True)
