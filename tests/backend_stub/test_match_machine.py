"""A state machine of the match: any submissions, at once and repeated, to two servers over one database, as days pass.

Nothing is signed without two nullifiers with days at most one apart, and each for its own day only; asked again, both
honest sides are signed; nothing is lost before its retention is over or no other side can come, and nothing is kept
after. A ticket serves one contact: of those that come for it at once, any.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import secrets
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backend_stub.following import parameters as following
from backend_stub.server import quota
from backend_stub.server.service import Server
from protocol import contact, encounter
from protocol.contact import Ticket
from protocol.errors import QuotaRefused
from tests.backend_stub.databases import KINDS, kept, kept_tickets, several
from tests.backend_stub.support import ManualClock
from tests.support import DAY, ISSUER, NOW, TICKET, make_member, world_of

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.following.parameters import Follower
    from backend_stub.following.signing import ServerKeys
    from protocol.contact import ServerSecret
    from protocol.messages import Outcome, Submission
    from tests.support import Member

WORLD = world_of("arkworks")
SECRETS = WORLD.secrets[:2]
USERS: tuple[Member, ...] = (WORLD.alice, WORLD.bob, make_member(WORLD.curve, WORLD.random, WORLD.users))
LIMITS = WORLD.parameters.limits

Key = tuple[bytes, bytes]


@functools.cache
def submission(user: int, met: int, day: int, ticket: Ticket) -> Submission:
    ccm = encounter.ccm_of(SECRETS[met])
    credential, issuer = USERS[user].credential, WORLD.users.key
    return contact.submit(WORLD.curve, WORLD.random, credential, issuer, ISSUER, ccm, day, ticket)


def key_of(one: Submission) -> Key:
    return one.ccm, contact.nullifier_of(one)


class Knowing:
    """In place of a follower: the parameters are known already."""

    def known(self) -> following.Known:
        return following.Known(WORLD.parameters, WORLD.keys)

    def last(self) -> following.Known:
        return self.known()


Asked = tuple[int, int, int, int, int]
"""User, encounter, its day; by how many days the sender's day is off, and the ticket's number."""

SUBMISSIONS = some.tuples(
    some.integers(0, len(USERS) - 1),
    some.integers(0, len(SECRETS) - 1),
    some.integers(DAY - 4, DAY + 5),
    some.sampled_from([0, 0, 0, 0, 1, -1, 2, -2]),
    some.integers(0, 3),
)
POOLS = some.lists(some.tuples(some.integers(0, 1), some.lists(SUBMISSIONS, min_size=1, max_size=4)), max_size=4)


class OneKey:
    """What the server signs with, however late it is."""

    def current(self, _known: object) -> tuple[int, ServerSecret]:
        """Number and secret."""
        return 1, WORLD.server


class Match(RuleBasedStateMachine):
    """`days`: what the servers recorded, as their answers say; `signed`: what they signed for.

    `ever`: all that was recorded. A side stays signed though the other, which is a day older, is forgotten before it.
    `tickets`: the CCM that each ticket serves, by its day and nullifier.
    """

    file: Path
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opening = several(self.file, self.url)
        self.clock = ManualClock(NOW)
        self.days: dict[Key, int] = {}
        self.ever: set[tuple[Key, int]] = set()
        self.signed: set[Key] = set()
        self.tickets: dict[tuple[int, bytes], bytes] = {}
        self.unused = itertools.count(4)

    @initialize()
    def start(self) -> None:
        self.databases = self.runner.run(self.opening.__aenter__())
        follower = cast("Follower", Knowing())
        self.servers = [
            Server(cast("ServerKeys", OneKey()), database, follower, WORLD.curve, self.clock, secrets.token_bytes)
            for database in self.databases
        ]

    @rule(pools=POOLS)
    def submit(self, pools: list[tuple[int, list[Asked]]]) -> None:
        """Several pools at once."""
        made = [(number, [self.made(*asked) for asked in pool]) for number, pool in pools]

        async def ask() -> list[list[Outcome]]:
            return await asyncio.gather(*(self.servers[number].outcomes(pool) for number, pool in made))

        answers = self.runner.run(ask())
        answered = [
            (one, outcome)
            for (_, pool), outcomes in zip(made, answers, strict=True)
            for one, outcome in zip(pool, outcomes, strict=True)
        ]
        answered = self.check_tickets(answered)
        for one, outcome in answered:
            if outcome.refusal is None:
                assert self.days.setdefault(key_of(one), one.day) == one.day, "one day for each side"
                self.ever.add((key_of(one), one.day))
        for one, outcome in answered:
            self.check(one, outcome)

    def made(self, user: int, met: int, day: int, days_off: int, number: int) -> Submission:
        return submission(user, met, day, Ticket(self.clock.today + days_off, number))

    def check_tickets(self, answered: list[tuple[Submission, Outcome]]) -> list[tuple[Submission, Outcome]]:
        """Those that had a ticket."""
        refused = [one for one, outcome in answered if outcome.refusal and outcome.refusal.slug == QuotaRefused.slug]
        rest = [(one, outcome) for one, outcome in answered if one not in refused]
        for use in (quota.use_of(one) for one, _ in rest):
            assert self.tickets.setdefault((use.day, use.nullifier), use.ccm) == use.ccm, "a ticket served two contacts"
        for one in refused:
            use = quota.use_of(one)
            holder = self.tickets.get((use.day, use.nullifier), use.ccm)
            assert holder != use.ccm or abs(use.day - self.clock.today) > 1, "refused without a reason"
        assert all(abs(one.sent_day - self.clock.today) <= 1 for one, _ in rest)
        return rest

    def check(self, one: Submission, outcome: Outcome) -> None:
        key = key_of(one)
        if outcome.refusal is not None:
            old = not self.clock.today - LIMITS.first_seen_days <= one.day <= self.clock.today
            assert old or self.days[key] != one.day, "refused without a reason"
            assert self.days.get(key) != one.day, "a recorded side was lost"
        elif outcome.partial is not None:
            assert self.near(key), "signed without another side"
            self.signed.add(key)
            signature = contact.sign_partially(WORLD.curve, WORLD.server, one.ccm, one.day, key[1])
            assert outcome.partial.signature == signature

    def near(self, key: Key) -> bool:
        """Whether there ever was another side that matches this one."""
        others = {day for other, day in self.ever if other[0] == key[0] and other != key}
        return any(abs(day - self.days[key]) <= 1 for day in others)

    @rule(number=some.integers(0, 1))
    def ask_again(self, number: int) -> None:
        """Each side that has another is signed now, whoever came first."""
        recorded = [self.made(*asked, 0, next(self.unused)) for asked in self.every() if self.is_recorded(*asked)]
        if recorded:
            outcomes = self.runner.run(self.servers[number].outcomes(recorded))
            answered = self.check_tickets(list(zip(recorded, outcomes, strict=True)))
            assert len(answered) == len(recorded)
            for one, outcome in answered:
                self.check(one, outcome)
                assert (outcome.partial is not None) == (self.near(key_of(one)) or key_of(one) in self.signed)

    def every(self) -> list[tuple[int, int, int]]:
        days = range(DAY - 4, DAY + 6)
        return [(user, met, day) for user in range(len(USERS)) for met in range(len(SECRETS)) for day in days]

    def is_recorded(self, user: int, met: int, day: int) -> bool:
        return self.days.get(key_of(submission(user, met, day, TICKET))) == day

    @rule(days=some.sampled_from([1, 1, 1, 13]), number=some.integers(0, 1))
    def days_pass(self, days: int, number: int) -> None:
        self.clock.pass_by(days=days)
        self.runner.run(self.servers[number].clean())
        oldest = self.clock.today - LIMITS.retention_days
        alone = self.clock.today - LIMITS.first_seen_days - 1
        old = [key for key, day in self.days.items() if day < (oldest if self.near(key) else alone)]
        for key in old:
            del self.days[key]
            self.signed.discard(key)
        first_day = encounter.day_of(self.clock.now() - LIMITS.clock_tolerance) - 1
        self.tickets = {ticket: ccm for ticket, ccm in self.tickets.items() if ticket[0] >= first_day}

    @invariant()
    def nothing_is_lost_or_kept_too_long(self) -> None:
        rows = self.runner.run(kept(self.databases[0]))
        assert {key: day for key, (day, _) in rows.items()} == self.days
        assert all(rows[key][1] for key in self.signed)
        assert self.runner.run(kept_tickets(self.databases[0])) == self.tickets

    def teardown(self) -> None:
        if hasattr(self, "databases"):
            self.runner.run(self.opening.__aexit__(None, None, None))
        self.runner.close()


@pytest.mark.parametrize("kind", KINDS)
def test_any_submissions_through_two_servers(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    class Here(Match):
        file = tmp_path / "server.db"
        url = request.getfixturevalue("postgres").fresh() if kind == "postgresql" else ""

    told = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Here, settings=told)
