"""What is drawn, so that nobody can count on it: the proxy of a request, the wait before another try."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from protocol.errors import Unreachable

if TYPE_CHECKING:
    import random as chances

    from agent.kept import Encounter
    from protocol.messages import Parameters, ProxyGroup


def draw_proxy(chance: chances.Random, parameters: Parameters, refused: Encounter | None = None) -> str:
    """The URL of a proxy, drawn among all groups; for a contact that was refused, of its next group.

    Raises Unreachable where there is none.
    """
    groups = [group for group in parameters.groups if group.proxies]
    if not groups:
        raise Unreachable("the parameters name no proxy; ask the authority")
    required = next_group(parameters, refused) if refused is not None else None
    return chance.choice((required or chance.choice(groups)).proxies)


def next_group(parameters: Parameters, one: Encounter) -> ProxyGroup | None:
    """The group that a contact that was refused has to ask next, another one each time; None: any.

    Proxies of one group may lie together: so that they alone cannot end a contact, its last two refusals have to
    come from two groups, in an order that nobody else knows.
    """
    groups = [group for group in parameters.groups if group.proxies]
    if not one.refusals or not groups:
        return None
    groups.sort(key=lambda group: hashlib.blake2b(group.name.encode(), key=one.secret).digest())
    return groups[one.refusals % len(groups)]


def backoff(chance: chances.Random, attempts: int, first: float, last: float) -> float:
    """Seconds to wait after so many attempts: doubling from first to last, drawn from the upper half."""
    longest = min(first * 2.0 ** min(attempts - 1, 30), last)
    return chance.uniform(longest / 2, longest)
