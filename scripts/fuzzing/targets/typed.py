"""What people type or paste: codes, URLs, days, clocks, parameters by name, records in hexadecimal or base64."""

from __future__ import annotations

import asyncio
import base64
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import aiohttp

from agent import transport
from agent.clock import day_number, day_text
from backend_stub.authority import openings
from backend_stub.commands.common import assignments
from backend_stub.operations import policy
from protocol import declaration, messages
from protocol.errors import Malformed, Misuse, SpotError, Unreachable
from protocol.timescale import read_timescale
from scripts.fuzzing.target import Target, notice, with_mode
from tests.support import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.fuzzing.target import Check

RECORDS = [one.record for one in world_of("arkworks").contacts]
SET = ("limits.epoch=60", 'risk={"bands":[]}', "risk=spot", "onset=[]", "risk.bands=[1e999]")


def seeds() -> Iterator[bytes]:
    """What is typed well, and what nearly is."""
    for code in ("ABCD-EFGH-IJKL-2345", "abcd efgh 0189 2345", "ABCD"):
        yield with_mode("code", code.encode())
    for url in ("https://127.0.0.1:8700", "http://[::1]/x", "ftp://x", "http://", "https://a:b@c:99999/"):
        yield with_mode("url", url.encode())
    for day in ("2026-11-22", "0001-01-01", "2026-02-30"):
        yield with_mode("day", day.encode())
    for clock in ("120@1700000000", "1@0/5", "1@nan", "x@y"):
        yield with_mode("clock", clock.encode())
    for text in SET:
        yield with_mode("parameter", text.encode())
    data = messages.encode(RECORDS[0])
    for given in (data, data.hex().encode(), base64.b64encode(data)):
        yield with_mode("record", given)


def _code(text: str) -> None:
    code = declaration.normal_code(text)
    assert declaration.normal_code(code) == code
    assert len(code) == 16


def _day(text: str) -> None:
    try:
        day = day_number(text)
    except ValueError:  # what the command line expects of it
        return
    if day >= 0:
        assert day_number(day_text(day)) == day


def _clock(text: str) -> None:
    scale = read_timescale(text)
    assert math.isfinite(scale.at(1.7e9))
    assert read_timescale(str(scale)) == scale


def _parameter(text: str) -> None:
    made = policy.changed(policy.Policy(), assignments([text]))
    assert messages.decode(policy.Policy, messages.encode(made)) == made


def _record(text: str) -> None:
    messages.encode(openings.read_record(text.encode("latin-1")))


async def _nobody(*_: object, **__: object) -> None:
    raise aiohttp.ClientConnectionError


READERS = {"code": _code, "day": _day, "clock": _clock, "parameter": _parameter, "record": _record}


@contextmanager
def ready() -> Iterator[Check]:
    """The check of one text; nobody is asked at the URLs."""
    with asyncio.Runner() as runner, mock.patch.object(aiohttp.TCPConnector, "connect", _nobody):
        loop = runner.get_loop()

        def check(data: bytes) -> None:
            first, _, rest = data.partition(b"\n")
            mode = first.decode("latin-1")
            notice(mode)
            # As a program is given what is no text.
            text = rest.decode("latin-1" if mode == "record" else "utf-8", "surrogateescape").replace("\0", "")
            try:
                if mode == "url":
                    loop.run_until_complete(transport.get(text.rstrip("/"), messages.HEADS_PATH))
                elif mode in READERS:
                    READERS[mode](text)
                    notice(f"{mode} to the end")
            except (Malformed, Misuse, Unreachable) as error:
                _is_told(error)

        yield check


def _is_told(error: SpotError) -> None:
    assert error.text  # it may repeat what was typed; the command line prints it as a stranger's
    notice(type(error).__name__)


TARGET = Target(
    name="typed",
    about="codes, URLs, days, clocks, parameters and records that people type or paste",
    modules=("protocol.timescale", "backend_stub.authority.openings"),
    modes=("url", *READERS),
    seeds=seeds,
    ready=ready,
    longest=2048,
)
