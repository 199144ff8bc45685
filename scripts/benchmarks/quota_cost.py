"""What the quota adds to the cryptography of a submission: each step with a ticket and without one, timed in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from protocol import batch, contact, credential, hashing, messages
from protocol.credential import Purpose, Statement
from scripts.benchmarks.timing import time_in_turns
from scripts.benchmarks.world import DAY, RANDOM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from protocol.messages import Submission
    from scripts.benchmarks.world import Parties, World

    Step = Callable[[], object]

POOL = 16
MOST = 1.25  # times a submission without
ALL = "all three"


@dataclass(frozen=True)
class Added:
    """A step's milliseconds a submission, with a ticket and without, and the ratio of the two."""

    step: str
    milliseconds: float
    without: float
    ratio: float


def _plain(parties: Parties, ccm: bytes) -> Statement:
    """What a submission would say without a ticket."""
    message = hashing.joined(ccm, hashing.number(DAY))
    return Statement(Purpose.SUBMISSION, parties.users, (contact.nullifier_base(parties.curve, ccm),), message)


def _verify(parties: Parties, pool: Sequence[Submission]) -> None:
    claims = [contact.submission_claim(parties.curve, parties.users, one) for one in pool]
    assert not batch.failing(parties.curve, RANDOM, claims)  # noqa: S101


def _verify_plain(parties: Parties, pool: Sequence[tuple[bytes, messages.Show]]) -> None:
    claims = [credential.show_claim(parties.curve, _plain(parties, ccm), shown) for ccm, shown in pool]
    assert not batch.failing(parties.curve, RANDOM, claims)  # noqa: S101


def measure(parties: Parties, world: World, seconds: float, clock: Callable[[], float]) -> list[Added]:
    """Every step of a submission that comes alone, and of one in a pool; signed, and pending."""
    found = []
    for size, name in ((1, "alone"), (POOL, f"one of {POOL}")):
        steps = _steps(parties, world, size)
        timed = {step: time_in_turns(*pair, seconds, clock) for step, pair in steps.items()}  # type: ignore[arg-type]
        rest = {party: _alike(parties, world, size, party) for party in ("agent", "proxy", "server")}
        same = {party: time_in_turns(run, run, seconds, clock).measured for party, run in rest.items()}  # type: ignore[arg-type]
        made, checked = timed["agent submits"], timed["verified"]
        scale = {"agent": 1, "proxy": size, "server": size}
        parts = {"agent": made, "proxy": checked, "server": checked}
        found.append(Added(f"agent submits, {name}", made.measured * 1e3, made.floor * 1e3, made.ratio))
        both = checked.measured * 1e3 / size, checked.floor * 1e3 / size
        found.append(Added(f"proxy and server each verify it, {name}", *both, checked.ratio))
        for state in ("pending", "signed"):
            total = [0.0, 0.0]
            for party, timing in parts.items():
                more = same[party] if state == "signed" else 0.0
                pair = [(one + more) * 1e3 / scale[party] for one in (timing.measured, timing.floor)]
                total = [before + one for before, one in zip(total, pair, strict=True)]
                if state == "signed":
                    found.append(Added(f"{party}, all its work, {state}, {name}", pair[0], pair[1], pair[0] / pair[1]))
            found.append(Added(f"{ALL}, {state}, {name}", total[0], total[1], total[0] / total[1]))
    return found


def _steps(parties: Parties, world: World, size: int) -> dict[str, tuple[Step, Step]]:
    pool = world.submissions[:size]
    ccm = pool[0].ccm
    plain = [(one.ccm, credential.show(RANDOM, parties.user, _plain(parties, one.ccm))) for one in pool]
    body = [messages.encode(one) for one in pool]
    plain_body = [(ccm, messages.encode(shown)) for ccm, shown in plain]

    def verify() -> None:
        _verify(parties, [messages.decode(messages.Submission, one) for one in body])

    def verify_plain() -> None:
        _verify_plain(parties, [(ccm, messages.decode(messages.Show, shown)) for ccm, shown in plain_body])

    return {
        "agent submits": (
            lambda: messages.encode(parties.submit(ccm)),
            lambda: messages.encode(credential.show(RANDOM, parties.user, _plain(parties, ccm))),
        ),
        "verified": (verify, verify_plain),
    }


def _alike(parties: Parties, world: World, size: int, party: str) -> Step:
    """What the party does besides, for all of a pool, once it is signed."""
    pool, curve = world.submissions[:size], parties.curve

    def proxy() -> None:
        claims = [contact.answer_claim(curve, parties.keys, one, world.partial(at)) for at, one in enumerate(pool)]
        assert not batch.failing(curve, RANDOM, claims)  # noqa: S101
        for at, one in enumerate(pool):
            messages.encode(parties.extend(one, world.partial(at)))

    return {
        "agent": lambda: contact.check_record(curve, RANDOM, parties.keys, pool[0], world.contacts[0].record),
        "proxy": proxy,
        "server": lambda: [parties.sign_partially(one) for one in pool],
    }[party]


def met(added: Sequence[Added]) -> bool:
    """Whether the quota costs less than a quarter of a submission that gets signed, alone or in a pool."""
    return all(one.ratio < MOST for one in added if one.step.startswith(f"{ALL}, signed"))


def show(console: Console, added: Sequence[Added]) -> None:
    """Print the table."""
    table = Table(title="What the quota adds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", min_width=20)
    for heading in ("ms", "without", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in added:
        table.add_row(one.step, f"{one.milliseconds:.2f}", f"{one.without:.2f}", f"{one.ratio:.2f}")
    console.print(table)
    verdict = "met" if met(added) else "MISSED"
    console.print(f"The quota takes less than {MOST - 1:.0%} of a submission that gets signed: [bold]{verdict}[/]")
