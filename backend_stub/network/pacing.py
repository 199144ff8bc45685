"""Answers at times that do not tell what it took to find them."""

from __future__ import annotations

import asyncio
import math


def due(began: float, step: float) -> float:
    """The event loop's time to answer at what began at this time of it: the next multiple of `step` seconds since then.

    So work of any kind that takes less than a step is answered after one, and only a machine under load needs more.
    """
    now = asyncio.get_running_loop().time()
    return began + max(math.ceil((now - began) / step), 1) * step if step else now


async def wait(until: float) -> None:
    """Let the event loop's time come to this."""
    await asyncio.sleep(until - asyncio.get_running_loop().time())
