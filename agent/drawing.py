"""What is drawn, so that nobody can count on it: the proxy of a request, the wait before another try."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from protocol.errors import Unreachable

if TYPE_CHECKING:
    import random as chances

    from agent.kept import Encounter
    from protocol.messages import Parameters


def draw_proxy(chance: chances.Random, parameters: Parameters, refused: Encounter | None = None) -> str:
    """The URL of a proxy, drawn among all groups; for a contact that was refused, of another group each time.

    Proxies of one group may lie together: so that they alone cannot end a contact, its last two refusals have to
    come from two groups, in an order that nobody else knows. Raises Unreachable where there is none.
    """
    groups = [group for group in parameters.groups if group.proxies]
    if not groups:
        raise Unreachable("the parameters name no proxy; ask the authority")
    group = chance.choice(groups)
    if refused is not None and refused.refusals:
        groups.sort(key=lambda one: hashlib.blake2b(one.name.encode(), key=refused.secret).digest())
        group = groups[refused.refusals % len(groups)]
    return chance.choice(group.proxies)


def backoff(chance: chances.Random, attempts: int, first: float, last: float) -> float:
    """Seconds to wait after so many attempts: doubling from first to last, drawn from the upper half."""
    longest = min(first * 2.0 ** min(attempts - 1, 30), last)
    return chance.uniform(longest / 2, longest)
