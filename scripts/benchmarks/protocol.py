"""scripts/bench protocol: what each step of the protocol costs, from bytes to bytes, beside its floor."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from protocol import batch, contact, declaration, messages
from protocol.curve import MAKERS, Curve, open_curve
from protocol.errors import Misuse, SpotError
from scripts.benchmarks import quota_cost
from scripts.benchmarks.counting import CountingCurve, Counts
from scripts.benchmarks.tables import machine, machine_text
from scripts.benchmarks.timing import Timing, time_in_turns
from scripts.benchmarks.world import DAY, ISSUER, RANDOM, build, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.benchmarks.world import Parties, World

SIZES = {"arkworks": (1, 100, 1000), "py_ecc": (1, 10)}
BATCH = {"arkworks": 100, "py_ecc": 10}  # how many submissions or records where a batch is measured
MOST = 8192

# What the arithmetic needs, counted by hand from docs/protocol.md; a run that makes more than this is reported.
SHOW = Counts(multiplications=4)  # A, B, D, K
BASE = Counts(multiplications=2)  # N, L
SUBMIT = Counts(hashes=2) + SHOW + BASE * 2
SIGN_PARTIALLY = Counts(hashes=1, multiplications=1)
CHECK_PARTIAL = Counts(hashes=1, decodings=1, sums=(1, 1), pairings=(2,))


def check_submissions(count: int) -> Counts:
    """Decode A, B, D, K, two N, two L; hash J, not the ticket's; three equations of three points; three pairings."""
    return Counts(hashes=count, decodings=8 * count, sums=(count, count, count, 9 * count), pairings=(3,))


def check_records(count: int) -> Counts:
    """Decode N, PS, A, B, D, K; one equation of three points; pairings with g~ (PS and B), Ys, X~, Y~."""
    sums = (count, count, count, 2 * count, 3 * count)
    return Counts(hashes=count, decodings=6 * count, sums=sums, pairings=(4,))


def check_report(count: int) -> Counts:
    """The records; every J hashed; J* and N*; and one show with one base."""
    ownership = Counts(hashes=count, sums=(count, count))
    return check_records(count) + ownership + Counts(decodings=6, sums=(1, 1, 1, 6), pairings=(3,))


@dataclass(frozen=True)
class Target:
    """What this project promises of the fast maker: milliseconds an item, and times the floor."""

    milliseconds: float
    ratio: float


@dataclass(frozen=True)
class Case:
    """One thing to measure: `prepare` gives, for one maker's parties, what is then run and timed."""

    name: str
    items: int
    by_hand: Counts
    prepare: Callable[[Parties], Callable[[], None]]
    target: Target | None = None


@dataclass(frozen=True)
class Row:
    """One measured case; times are for all its items."""

    case: Case
    counted: Counts
    timing: Timing
    target: Target | None

    @property
    def milliseconds(self) -> float:
        """An item's time."""
        return self.timing.measured * 1000 / self.case.items

    @property
    def floor(self) -> float:
        """An item's floor, in milliseconds."""
        return self.timing.floor * 1000 / self.case.items

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        target = self.target
        if target is None:
            return None
        return self.milliseconds <= target.milliseconds and self.timing.ratio <= target.ratio

    def as_json(self) -> dict[str, Any]:
        """The row for machines."""
        return {
            "name": self.case.name,
            "items": self.case.items,
            "milliseconds_per_item": self.milliseconds,
            "floor_milliseconds_per_item": self.floor,
            "ratio": self.timing.ratio,
            "rounds": self.timing.rounds,
            "counted": asdict(self.counted),
            "by_hand": asdict(self.case.by_hand),
            "target": asdict(self.target) if self.target else None,
            "met": self.met,
        }


def _verify(parties: Parties, submissions: tuple[messages.Submission, ...]) -> None:
    claims = [contact.submission_claim(parties.curve, parties.users, one) for one in submissions]
    _expect(not batch.failing(parties.curve, RANDOM, claims))


def _expect(true: bool) -> None:
    if not true:
        raise Misuse("what was made for the benchmark does not hold; this is a mistake of the benchmark's")


def cases(world: World, sizes: tuple[int, ...], batch_size: int) -> list[Case]:
    """Everything that is measured."""
    first = world.submissions[0]
    one = messages.encode(first)
    many = messages.encode(messages.Submissions(submissions=world.submissions[:batch_size]))
    partial = world.partial(0)

    def submit(parties: Parties) -> Callable[[], None]:
        return lambda: _expect(bool(messages.encode(parties.submit(first.ccm))))

    def extend(parties: Parties) -> Callable[[], None]:
        return lambda: _expect(bool(messages.encode(parties.extend(first, partial))))

    def check_and_extend(parties: Parties) -> Callable[[], None]:
        def run() -> None:
            contact.check_partial(parties.curve, RANDOM, parties.keys, first, partial)
            messages.encode(parties.extend(first, partial))

        return run

    def serve(parties: Parties) -> Callable[[], None]:
        def run() -> None:
            _verify(parties, (messages.decode(messages.Submission, one),))
            check_and_extend(parties)()

        return run

    def sign_partially(parties: Parties) -> Callable[[], None]:
        return lambda: _expect(bool(parties.sign_partially(first)))

    def verify_and_sign(parties: Parties) -> Callable[[], None]:
        def run() -> None:
            submission = messages.decode(messages.Submission, one)
            _verify(parties, (submission,))
            parties.sign_partially(submission)

        return run

    def verify_and_sign_batch(parties: Parties) -> Callable[[], None]:
        def run() -> None:
            submissions = messages.decode(messages.Submissions, many).submissions
            _verify(parties, submissions)
            for submission in submissions:
                parties.sign_partially(submission)

        return run

    def check_record(parties: Parties) -> Callable[[], None]:
        answer = messages.encode(messages.Answer(record=world.contacts[0].record))

        def run() -> None:
            record = messages.decode(messages.Answer, answer).record
            _expect(record is not None)
            if record is not None:
                contact.check_record(parties.curve, RANDOM, parties.keys, first, record)

        return run

    def check_record_batch(parties: Parties) -> Callable[[], None]:
        records = [messages.encode(one.record) for one in world.contacts[:batch_size]]

        def run() -> None:
            decoded = [messages.decode(messages.ContactRecord, data) for data in records]
            claims = [claim for one in decoded for claim in contact.record_claims(parties.curve, parties.keys, one)]
            _expect(not batch.failing(parties.curve, RANDOM, claims))

        return run

    serving = check_submissions(1) + CHECK_PARTIAL + SHOW
    signing = check_submissions(batch_size) + SIGN_PARTIALLY * batch_size
    return [
        Case("agent submits a contact", 1, SUBMIT, submit),
        Case("proxy signs (P_Sign)", 1, SHOW, extend, Target(2, 1.5)),
        Case("proxy checks PS and signs", 1, CHECK_PARTIAL + SHOW, check_and_extend),
        Case("proxy verifies a submission, checks PS, signs", 1, serving, serve),
        Case("server signs (S_PSign)", 1, SIGN_PARTIALLY, sign_partially),
        Case("server verifies a submission, signs", 1, check_submissions(1) + SIGN_PARTIALLY, verify_and_sign),
        Case(f"server verifies {batch_size} at once, signs each", batch_size, signing, verify_and_sign_batch),
        Case("agent checks a record", 1, check_records(1), check_record),
        Case(f"agent checks {batch_size} records at once", batch_size, check_records(batch_size), check_record_batch),
        *(_report_case(world, size) for size in sizes),
    ]


def _report_case(world: World, size: int) -> Case:
    """The authority's whole check of a report, from its opened bytes on (*Sig_Verify, CCM_Verify*)."""
    parameters = bytes(32)
    body = messages.ReportBody(code="A" * 16, reply_key=bytes(32), issuer=ISSUER, contacts=world.contacts[:size])

    def prepare(parties: Parties) -> Callable[[], None]:
        curve = parties.curve
        made = declaration.make_report(curve, RANDOM, parties.user, parties.users, body, parameters)
        data = messages.encode(made)
        rules = declaration.Rules(parties.keys, {}, DAY, DAY, MOST)

        def run() -> None:
            report = messages.decode(messages.Report, data)
            contacts = messages.decode(messages.ReportBody, report.body).contacts
            reasons = declaration.check_contacts(curve, RANDOM, rules, contacts, frozenset())
            _expect(not any(reasons))
            digest = declaration.digest_of(report.body, parameters)
            declaration.check_ownership(curve, RANDOM, parties.users, contacts, digest, report.ownership)

        return run

    target = Target(2.2, 1.5) if size == 1000 else None
    return Case(f"authority checks a report of {size}", size, check_report(size), prepare, target)


def measure(case: Case, curve: Curve, world: World, seconds: float, clock: Callable[[], float]) -> Row:
    """Count the case's operations in one run, then time it and the same operations bare."""
    counting = CountingCurve(curve)
    counted_run = case.prepare(settle(counting, world))
    counted_run()  # what is remembered from one run to the next is
    counting.trace.clear()
    counted_run()
    timing = time_in_turns(case.prepare(settle(curve, world)), counting.trace.replay, seconds, clock)
    target = case.target if curve.name == "arkworks" else None
    return Row(case, counting.trace.counts(), timing, target)


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("protocol", help="the cryptography, step by step, beside its floor")
    parser.add_argument("--maker", choices=tuple(MAKERS), default="arkworks", help="of the curve (default arkworks)")
    parser.add_argument("--sizes", type=_sizes, metavar="N,N,...", help="of the reports; 1,100,1000; py_ecc: 1,10")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row, about (default 4)")
    parser.add_argument("--cpu", action="store_true", help="time the processor, not the clock: for a busy machine")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if not all(0 < size <= MOST for size in sizes):
        raise argparse.ArgumentTypeError(f"sizes are 1 to {MOST}")
    return sizes


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where a target is missed or a step computes more than counted by hand."""
    notes = Console(stderr=True)
    try:
        curve = open_curve(options.maker)
    except SpotError as error:
        notes.print(f"bench: {error.text}")
        return error.exit_code
    sizes, batch_size = options.sizes or SIZES[curve.name], BATCH[curve.name]
    clock = time.process_time if options.cpu else time.perf_counter
    rows = []
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("making contacts", total=None)
        # Both makers give the same bytes, so the fast one makes them where it is there.
        world = build(open_curve(), max(*sizes, batch_size))
        todo = cases(world, sizes, batch_size)
        for index, case in enumerate(todo):
            progress.update(task, description=case.name, completed=index, total=len(todo))
            rows.append(measure(case, curve, world, options.seconds, clock))
        progress.update(task, description="what the quota adds", total=None)
        added = quota_cost.measure(settle(curve, world), world, options.seconds, clock)
    if options.json:
        content = {
            "maker": curve.name,
            "clock": "cpu" if options.cpu else "wall",
            "machine": machine(),
            "rows": [row.as_json() for row in rows],
            "quota": [asdict(one) for one in added],
        }
        print(json.dumps(content, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120)
        _show(console, curve.name, rows, cpu=options.cpu)
        quota_cost.show(console, added)
        console.print(machine_text())
    missed = any(row.met is False or row.counted != row.case.by_hand for row in rows)
    return int(missed or not quota_cost.met(added))


def _show(console: Console, maker: str, rows: list[Row], *, cpu: bool) -> None:
    title = f"SPOT with {maker}: milliseconds{' of processor time' if cpu else ''} an item, from bytes to bytes"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", min_width=20)
    for heading in ("ms", "floor", "ratio", "hash", "dec", "mul", "terms", "pair"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        times = f"{row.milliseconds:.2f}", f"{row.floor:.2f}", f"{row.timing.ratio:.2f}"
        counted = row.counted
        singles = counted.hashes, counted.decodings, counted.multiplications, sum(counted.sums), sum(counted.pairings)
        table.add_row(row.case.name, *times, *map(str, singles))
    console.print(table)
    for row in rows:
        if target := row.target:
            promise = f"at most {target.milliseconds:g} ms and {target.ratio:g} times its floor"
            console.print(f"{row.case.name}: {promise}: [bold]{'met' if row.met else 'MISSED'}[/]")
        if row.counted != row.case.by_hand:
            console.print(f"{row.case.name}: [bold]counted {row.counted}; by hand {row.case.by_hand}[/]")
    if all(row.counted == row.case.by_hand for row in rows):
        console.print("The operations that the runs made are those that were counted by hand.")
    console.print(
        "floor: the same operations on the same operands, by the library's own functions, timed in turns with the "
        f"step; medians of at least {min(row.timing.rounds for row in rows)} rounds, ratio of the rounds' ratios. Then "
        "the operations of all items together. hash: to G1; dec: decodings, subgroup check included; mul: "
        "multiplications; terms: of multi-scalar multiplications; pair: pairings."
    )
