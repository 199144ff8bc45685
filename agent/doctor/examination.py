"""`spot doctor`: what can be looked at without being on air, each as one finding that says what to do.

Nothing here raises or waits for ever: a check that cannot be made is a finding as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from agent.doctor.backend import Joined, by_host, check_backend, check_certificate
from agent.doctor.bluetooth import check_bluetooth
from agent.doctor.findings import Finding, Verdict, told
from agent.doctor.machine import (
    check_bleak,
    check_clock,
    check_curve,
    check_disk,
    check_folder,
    check_keyring,
    check_python,
    check_store,
)
from agent.doctor.probing import probe_all
from agent.transport import UNCHECKED
from protocol.errors import SpotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.commands.desk import Desk


PATIENCE = 10.0  # seconds for what this machine is asked; a locked keyring would wait for a person


async def examine(desk: Desk, url: str = "") -> list[Finding]:
    """Everything, in the order in which it is to be mended. url: a backend to look at beside that of the store."""
    folder, settings = desk.folder, desk.settings
    findings = [check_python(), check_bleak(), check_curve(settings)]
    findings += await check_bluetooth(settings)
    findings += await _within("folder", lambda: [check_folder(folder), check_disk(folder)])
    kept: list[Joined] = []
    findings += await _within("keyring", lambda: [check_keyring(folder, settings)])
    findings += await _within("store", lambda: check_store(folder, settings, kept))
    # Before joining nobody knows which roots are the authority's: certificates are not verified then.
    trust = kept[0].roots if kept else UNCHECKED
    probes = await probe_all(dict.fromkeys([*_urls(kept), *([url.rstrip("/")] if url else [])]), trust)
    findings.append(check_clock(settings, next((one.offset for one in probes if one.offset is not None), None)))
    findings += check_backend(kept[0] if kept else None, probes)
    findings += [check_certificate(one) for one in by_host(probes)]
    return findings


async def _within(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What `look` finds, in a thread that is left behind where it hangs: one of asyncio's would be waited for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Finding]] = loop.create_future()

    def settle(found: list[Finding]) -> None:
        if not done.done():
            done.set_result(found)

    def run() -> None:
        found = _safely(name, look)
        with contextlib.suppress(RuntimeError):  # too late: the loop is closed
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name=f"doctor: {name}", daemon=True).start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await done
    except TimeoutError:
        remedy = "see whether a window asks for a password, or whether the disk hangs"
        return [Finding(name, Verdict.FAULT, f"no answer within {PATIENCE:g} s", remedy)]


def _safely(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except SpotError as error:
        return [told(name, error.text)]
    except OSError as error:
        return [Finding(name, Verdict.FAULT, f"the system says: {error.strerror or error}", "check disk and rights")]
    except Exception as error:  # noqa: BLE001 (a doctor that falls ill helps nobody)
        return [Finding(name, Verdict.WARNING, f"could not be checked ({type(error).__name__})", "report this, please")]


def _urls(kept: list[Joined]) -> list[str]:
    return [url for one in kept for url in (one.url, *(proxy for group in one.proxies for proxy in group))]
