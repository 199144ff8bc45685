"""scripts/bench scale: what so many users need, worked out from measured costs and stated assumptions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from scripts.benchmarks.tables import show

if TYPE_CHECKING:
    import argparse

USERS = (10_000, 1_000_000, 60_000_000)
DAY = 86_400  # s
TOKEN = 16  # bytes


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What the arithmetic rests on; docs/scale.md says where each comes from."""

    encounters: float = 60.0  # a user and day: peers heard for a minute or longer, an epoch each
    asked: float = 1.5  # submissions for each: the first side has to ask again
    peak: float = 3.0  # the busiest hour, times the mean
    cost: float = 7.2  # ms of processor a submission, all parts, with TLS
    used: float = 0.6  # of a processor at the peak
    row: float = 281.0  # bytes of a side of a contact in PostgreSQL, indexes included
    ticket: float = 120.0  # bytes of a submission's ticket in PostgreSQL, index included
    tickets_kept: float = 2.0  # days: the sender's day and the next
    retention: float = 15.0  # days that sides are kept: 14, and today
    exchanged: float = 5.0  # kB on the wire for a submission, TLS 1.3 included
    declared: float = 1e-4  # of all users declare on one day
    listed: float = 75.0  # contacts in a declaration

    def of(self, users: int) -> dict[str, float]:
        """What so many users need."""
        submissions = users * self.encounters * self.asked / DAY
        sides = self.encounters * self.retention
        tickets = self.encounters * self.asked * self.tickets_kept
        reports = users * self.declared
        published = reports * self.listed * TOKEN
        return {
            "submissions a second, mean": submissions,
            "submissions a second, peak": submissions * self.peak,
            "cores, peak": submissions * self.peak * self.cost / 1000 / self.used,
            "rows written a second, peak": (users * self.encounters / DAY * 1.5 + submissions) * self.peak,
            "server's database, GB": users * (sides * self.row + tickets * self.ticket) / 1e9,
            "proxies' network, Mbit/s, peak": submissions * self.peak * self.exchanged * 8 / 1000,
            "reports a day": reports,
            "publication a day, MB": published / 1e6,
            "publications' network, Mbit/s, mean": published * users * 8 / DAY / 1e6,
        }


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("scale", help="what 10^4, 10^6 and 6·10^7 users need, by docs/scale.md")
    for one in fields(Assumed):
        parser.add_argument(f"--{one.name}", type=float, default=one.default, help=f"(default {one.default:g})")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Work out and print."""
    assumed = Assumed(**{one.name: getattr(options, one.name) for one in fields(Assumed)})
    needed = {users: assumed.of(users) for users in USERS}
    if options.json:
        print(json.dumps({"assumed": asdict(assumed), "needed": needed}, indent=2))
        return 0
    rows = [[name, *(_number(needed[users][name]) for users in USERS)] for name in needed[USERS[0]]]
    show("What users need", ["", *(f"{users:,} users" for users in USERS)], rows)
    return 0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
