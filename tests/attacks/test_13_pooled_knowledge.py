"""Attack 13: server and authority pool all they have, to link two submissions of one user or to open one.

They have every submission that was made, every member's T, all issuer secrets, the server's, and the opening keys of
all proxies. What they look for is a relation between two shows, or between a show and a member, that a pairing can see.
There is none: a user's secret key is never in G2.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from backend_stub.keyring import keys
from backend_stub.storage import tables
from tests.backend_stub.support import CURVE, Encounter, User, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protocol.curve import G1, G2
    from protocol.messages import Submission

USERS = 3


@dataclass
class Pool:
    """What both know."""

    submissions: list[Submission]
    members: list[G1]
    second_group: list[G2]

    def points(self, one: Submission) -> dict[str, G1]:
        """Every element of G1 in a submission."""
        show = one.show
        encoded = {
            "A": show.a,
            "B": show.b,
            "D": show.d,
            "K": show.k,
            "N": show.nullifiers[0],
            "L": show.commitments[0],
        }
        return {name: CURVE.decode_g1(data, name) for name, data in encoded.items()}


async def pool(there: World, users: Sequence[User], openings: Iterable[G2] = ()) -> Pool:
    """Have everybody submit two contacts, and put together what is known then."""
    submissions = [await there.submission(user, Encounter()) for user in users for _ in range(2)]
    for one in submissions:
        await there.send_submission(one)
    known = await there.keys()
    issuer = known.issuer(1)
    async with there.office() as office:
        run = office.database.run
        kept = await run(lambda connection: connection.scalars(select(tables.members.c.public)))
        members = [CURVE.decode_g1(data, "T") for data in kept]
        kept = await run(lambda connection: connection.scalars(select(tables.proxies.c.opening)))
        proxies = [CURVE.decode_g2(data, "T~") for data in kept]
    assert len(members) == len(users)
    second = [CURVE.g2, issuer.x, issuer.y, *known.signers.servers.values(), *proxies, *openings]
    return Pool(submissions, members, second)


def equal(left: tuple[G1, G2], right: tuple[G1, G2]) -> bool:
    """e(left) = e(right)."""
    return CURVE.pairing_product_is_one([left, (-right[0], right[1])])


def opened(pooled: Pool) -> list[int]:
    """The submissions for which a known element of G2 takes one of their points to another, or to a member's T."""
    found = []
    for index, one in enumerate(pooled.submissions):
        points = pooled.points(one)
        left, right = points["A"], points["D"]
        if any(equal((left, p), (right, q)) for p, q in itertools.permutations(pooled.second_group, 2)):
            found.append(index)
    return found


def linked(pooled: Pool) -> list[tuple[int, int]]:
    """The pairs of submissions that share a point, or whose points a pairing with what is known makes equal."""
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(pooled.submissions), 2):
        mine, theirs = pooled.points(one), pooled.points(other)
        shares = {point.encode() for point in mine.values()} & {point.encode() for point in theirs.values()}
        if shares or _related(pooled, mine, theirs):
            found.append((i, j))
    return found


def _related(pooled: Pool, mine: dict[str, G1], theirs: dict[str, G1]) -> bool:
    """Whether D, N and B of both stand in one ratio that a known element of G2 shows."""
    return any(
        equal((mine[name], p), (theirs[other], q))
        for name, other in (("D", "A"), ("A", "D"), ("N", "N"), ("D", "D"))
        for p, q in itertools.product(pooled.second_group[:3], repeat=2)
    )


async def test_nothing_they_know_opens_or_links_a_submission(there: World) -> None:
    users = [await there.user() for _ in range(USERS)]
    pooled = await pool(there, users)
    assert opened(pooled) == []
    assert linked(pooled) == []


async def test_a_member_s_key_in_the_second_group_would_open_everything(there: World) -> None:
    # As if users, like proxies, sent T~ = sk·Y~ when they join.
    users = [await there.user() for _ in range(USERS)]
    issuer = (await there.keys()).issuer(1)
    pooled = await pool(there, users, [users[0].credential.secret * issuer.y])
    assert opened(pooled) == [0, 1], "both submissions of the first user, and so linked"


async def test_the_issuer_s_secrets_do_not_help(there: World) -> None:
    """With x and y they can make more points of the second group, and T~ only of a T whose logarithm is known."""
    pooled = await pool(there, [await there.user()])
    secret = keys.read_issuer(there.backend.folder / "authority", keys.issuer_file(1))
    pooled.second_group += [scalar * point for scalar in (secret.x, secret.y) for point in pooled.second_group[:3]]
    assert opened(pooled) == []
    assert linked(pooled) == []
