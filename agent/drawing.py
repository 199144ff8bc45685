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
    """The URL of a proxy, drawn among all groups; for a contact that was refused, among those it may ask then.

    Raises Unreachable where there is none.
    """
    groups = groups_for(parameters, refused)
    if not groups:
        raise Unreachable("the parameters name no proxy; ask the authority")
    return chance.choice(chance.choice(groups).proxies)


def groups_for(parameters: Parameters, one: Encounter | None) -> list[ProxyGroup]:
    """The groups that may be asked for a contact, those with proxies: all, but after a refusal one half of them.

    Proxies of one group may lie together: so that they alone cannot end a contact, its last two refusals come from two
    groups. So each contact has two halves of its own, which nobody else knows, and goes to and fro between them.
    """
    groups = [group for group in parameters.groups if group.proxies]
    if one is None or not one.refusals:
        return groups
    groups.sort(key=lambda group: hashlib.blake2b(group.name.encode(), key=one.secret).digest())
    return groups[one.refusals % 2 :: 2] or groups


def backoff(chance: chances.Random, attempts: int, first: float, last: float) -> float:
    """Seconds to wait after so many attempts: doubling from first to last, drawn from the upper half."""
    longest = min(first * 2.0 ** min(attempts - 1, 30), last)
    return chance.uniform(longest / 2, longest)
