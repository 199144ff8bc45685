"""The device's quota: which of a day's tickets it has used. Each is drawn at random, and used for one submission only.

Used for a second contact, a ticket would show that both are of one user, and be refused. So a ticket counts as used
before anything is sent, and a repeated question takes a ticket of its own: nothing has to be remembered about it. Drawn
at random, a ticket tells neither how many went before it nor which came next; and should the disk lose the last ones
that were noted, they are hardly drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol.contact import Ticket
from protocol.errors import QuotaRefused

if TYPE_CHECKING:
    import random as chances

    from agent.store import Store

USED = "tickets"
DAYS_KEPT = 4  # those last drawn for: a clock that goes wrong and comes back must not find its day forgotten


class Used(msgspec.Struct, frozen=True):
    """The numbers used, a bit each, by day."""

    days: dict[int, bytes] = {}


def draw(store: Store, chance: chances.Random, day: int, submissions: int) -> Ticket:
    """A ticket that this device never had before, of so many a day; `chance` is a cryptographic source.

    Raises QuotaRefused where none is left, StorageError.
    """
    while True:
        before = store.get(USED, Used)
        days = dict(before.days) if before else {}
        used = bytearray(days.pop(day, b"").ljust(-(-submissions // 8), b"\0"))
        if int.from_bytes(used, "little") & (every := (1 << submissions) - 1) == every:
            raise QuotaRefused("this device has submitted as much as it may today; it goes on tomorrow")
        number = chance.randrange(submissions)
        while used[number // 8] >> number % 8 & 1:
            number = chance.randrange(submissions)
        used[number // 8] |= 1 << number % 8
        days[day] = bytes(used)
        if store.swap(USED, before, Used(dict(list(days.items())[-DAYS_KEPT:]))):  # the latest day is the last one
            return Ticket(day, number)
