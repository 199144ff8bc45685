"""What scripts/bench load found out, and how it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.benchmarks.tables import machine_text, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.benchmarks.load_client import Event

SUBMISSIONS = 3  # of a contact: the first side has to ask again
OVERLOAD = 6.0  # times the most that it takes


@dataclass
class Measured:
    """What came of one phase."""

    seconds: float
    events: list[Event]
    accepted: int
    """How many submissions the costs are of."""
    costs: dict[str, float]
    """Processor seconds, by part; the clients' are under "clients"."""
    pool: float
    """Mean number of submissions that a proxy forwarded at once."""
    signed: float
    """Share of the submissions that were signed."""

    @property
    def answered(self) -> list[Event]:
        """Those that were accepted."""
        return [event for event in self.events if event.status == 200]

    @property
    def submissions(self) -> float:
        """Accepted a second."""
        return len(self.answered) / self.seconds

    @property
    def contacts(self) -> float:
        """Completed a second."""
        return sum(event.completed for event in self.events) / self.seconds

    @property
    def statuses(self) -> dict[str, int]:
        """How often each status came."""
        return {str(status): count for status, count in sorted(Counter(event.status for event in self.events).items())}

    def percentiles(self) -> list[float]:
        """p50, p95, p99 of an accepted submission's answer, in seconds."""
        taken = sorted(event.seconds for event in self.answered) or [float("nan")]
        return [taken[min(len(taken) - 1, int(len(taken) * share))] for share in (0.5, 0.95, 0.99)]

    def cost(self, parts: Iterable[str] | None = None) -> float:
        """Processor seconds a submission; of these parts, or of all but the clients."""
        wanted = [name for name in self.costs if name != "clients"] if parts is None else parts
        return sum(self.costs[name] for name in wanted) / max(1, self.accepted)


@dataclass
class Outcome:
    """What one backend showed."""

    name: str
    most: Measured
    steady: Measured
    overload: Measured
    offered: float
    after: Measured
    floor: dict[str, float]
    told: dict[str, int]
    lost: int

    @property
    def floor_total(self) -> float:
        """Processor seconds a submission that the cryptography takes."""
        return sum(self.floor.values())

    @property
    def ratio(self) -> float:
        """All that a submission costs, to its floor."""
        return self.most.cost() / self.floor_total

    @property
    def kept(self) -> bool:
        """Whether what has to hold holds: nothing accepted is lost, all is completed."""
        return not self.lost and self.told["complete"] == self.told["contacts"]

    def as_json(self) -> dict[str, Any]:
        """The outcome for machines."""
        return {
            "name": self.name,
            "phases": {
                name: {
                    "seconds": phase.seconds,
                    "contacts_per_second": phase.contacts,
                    "submissions_per_second": phase.submissions,
                    "percentiles": dict(zip(("p50", "p95", "p99"), phase.percentiles(), strict=True)),
                    "statuses": phase.statuses,
                    "processor_seconds": phase.costs,
                }
                for name, phase in (
                    ("most", self.most),
                    ("steady", self.steady),
                    ("overload", self.overload),
                    ("after", self.after),
                )
            },
            "cost_milliseconds": self.most.cost() * 1000,
            "floor_milliseconds": {name: seconds * 1000 for name, seconds in self.floor.items()},
            "pool": self.most.pool,
            "signed_share": self.most.signed,
            "ratio": self.ratio,
            "offered_submissions_per_second": self.offered,
            "contacts": self.told,
            "lost": self.lost,
            "kept": self.kept,
        }


def tell(outcomes: list[Outcome]) -> None:
    """Print the tables."""
    headings = [
        "backend",
        "contacts/s",
        "subm./s",
        "p50",
        "p95",
        "p99",
        "ms/subm.",
        "floor",
        "ratio",
        "pool",
        "clients",
    ]
    title = "The most that it takes; seconds until an answer at 60 % of that; processor time of a submission"
    show(title, headings, map(_row, outcomes))
    costs = [(f"{one.name}: {part}", one.most.cost([part])) for one in outcomes for part in one.most.costs]
    floors = [(f"{one.name}: floor: {step}", seconds) for one in outcomes for step, seconds in one.floor.items()]
    cells = [(name, f"{seconds * 1000:.2f}") for name, seconds in sorted(costs + floors)]
    show("Where it goes", ("backend: part", "ms/subm."), cells)
    headings = ["backend", "offered/s", "answers (0: none)", "p50 before", "p50 after", "completed", "lost"]
    show(f"Overload: {OVERLOAD:g} times the most", headings, map(_overload_row, outcomes), machine_text())


def _row(one: Outcome) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.most.contacts:.0f}",
        f"{one.most.submissions:.0f}",
        *(f"{seconds:.2f}" for seconds in one.steady.percentiles()),
        f"{one.most.cost() * 1000:.2f}",
        f"{one.floor_total * 1000:.2f}",
        f"{one.ratio:.2f}",
        f"{one.most.pool:.0f}",
        f"{one.most.cost(['clients']) * 1000:.2f}",
    )


def _overload_row(one: Outcome) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.offered:.0f}",
        ", ".join(f"{count} × {status}" for status, count in one.overload.statuses.items()),
        f"{one.steady.percentiles()[0]:.2f}",
        f"{one.after.percentiles()[0]:.2f}",
        f"{one.told['complete']} of {one.told['contacts']}",
        str(one.lost),
    )
