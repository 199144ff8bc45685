"""What a backend must compute at least for one submission: its cryptography, bare, at the pools' size."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from protocol import batch, contact
from protocol.curve import open_curve
from scripts.benchmarks.counting import CountingCurve
from scripts.benchmarks.world import RANDOM, build, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.benchmarks.world import Parties, World

ROUNDS = 15


def floor(pool: int, signed: int) -> dict[str, float]:
    """Processor seconds a submission, by step, where of `pool` submissions verified at once `signed` are signed.

    What a part decodes or hashes in two of its steps counts once.
    """
    world = build(open_curve(), pool)
    counting = CountingCurve(open_curve())
    parties = settle(counting, world)
    found = {}
    for part in (_proxy(parties, world, signed), _server(parties, world, signed)):
        counting.trace.clear()
        for name, step in part.items():
            step()  # what is remembered from one submission to the next is
            counting.trace.calls.clear()
            step()
            found[name] = _time(counting.trace.replay) / pool
    return found


def _proxy(parties: Parties, world: World, signed: int) -> dict[str, Callable[[], object]]:
    some = world.submissions[:signed]

    def check() -> None:
        claims = [
            contact.answer_claim(parties.curve, parties.keys, one, world.partial(at)) for at, one in enumerate(some)
        ]
        assert not claims or not batch.failing(parties.curve, RANDOM, claims)  # noqa: S101

    return {
        "proxy verifies": lambda: _verify(parties, world),
        "proxy checks PS": check,
        "proxy signs": lambda: [parties.extend(one, world.partial(at)) for at, one in enumerate(some)],
    }


def _server(parties: Parties, world: World, signed: int) -> dict[str, Callable[[], object]]:
    return {
        "server verifies": lambda: _verify(parties, world),
        "server signs": lambda: [parties.sign_partially(one) for one in world.submissions[:signed]],
    }


def _verify(parties: Parties, world: World) -> None:
    claims = [contact.submission_claim(parties.curve, parties.users, one) for one in world.submissions]
    assert not batch.failing(parties.curve, RANDOM, claims)  # noqa: S101


def _time(run: Callable[[], None]) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)
