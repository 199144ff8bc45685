"""The search through the suite's logs finds what it is for."""

from __future__ import annotations

import base64
import random

import pytest

from protocol.declaration import new_code
from tests.conftest import found_secrets

CHANCE = random.Random(1)  # the same names in every worker


@pytest.mark.parametrize(
    "leak",
    [
        CHANCE.randbytes(32).hex(),
        base64.b64encode(CHANCE.randbytes(48)).decode(),
        repr(b"\xff\xfe\xfd\xfc\xfb"),
        new_code(CHANCE.randbytes),
        "DE:AD:BE:EF:00:01",
        "dev_DE_AD_BE_EF_00_01"[4:],
        str(("10.0.0.7", 51234)),
        str(int.from_bytes(CHANCE.randbytes(31), "big") | 1 << 240),
    ],
)
def test_a_leak_is_found(leak: str) -> None:
    assert found_secrets(f"some context {leak} and more")


@pytest.mark.parametrize(
    "line",
    [
        "running; epoch 900 s",
        "radio: No Bluetooth adapter hci0: plug one in, or name another.",
        "sync: the backend cannot be reached; check the network, it will be tried again",
        "authority listening on http://127.0.0.1:8700",
        "/work/project/.venv/lib/python3.11/site-packages/aiohttp/web_protocol.py line 480",
    ],
)
def test_a_plain_line_is_left_alone(line: str) -> None:
    assert not found_secrets(line)
