"""scripts/bench energy: what a day of an agent takes, by duty, curve and contacts, against the contacts it misses.

Measured: what one contact, one sighting, one write, one exchange and one idle second take, on this machine; and, on the
simulated radio, what is heard and missed. Multiplied up from that: the day.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from agent.kept import Encounter
from agent.samples import SAMPLE_SECONDS, Sample
from ble.duty import BATTERY, MAINS
from ble.simulated import AS_BLUEZ
from protocol import chain, contact, messages
from protocol.curve import MAKERS, open_curve
from protocol.encounter import SECONDS_A_DAY
from scripts.benchmarks import agent, bluez, exchange, flood, joined
from scripts.benchmarks.reception import meet
from scripts.benchmarks.simulation import EPOCH, NOON
from scripts.benchmarks.tables import machine, machine_text, notes, show
from scripts.benchmarks.world import DAY, RANDOM, build, settle

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ble.duty import Duty
    from scripts.benchmarks.world import World

LOSS = 0.3
MINUTES = (5, 10, 15)
CONTACTS = (10, 100, 1000)  # a day, each of 15 minutes with one other device, spread over the day
CONTACT_SECONDS = 900.0
SUBMISSIONS = 1.5  # a contact: whoever submits first is told to ask again, whoever comes second is not
EXCHANGES = 2 * 24  # a day, to look for news: hourly, over two proxies
FLUSHED = 10  # encounters written at once
# A frame's advertisement: preamble, access address, header, address, one field of service data, CRC; 1 Mbit/s, on three
# channels (Core Specification, Vol 6, Part B, 2.1).
AIRTIME = (1 + 4 + 2 + 6 + (1 + 1 + 2 + 16) + 3) * 8e-6 * 3
PAIRS = {
    "mains with mains": (MAINS, MAINS),
    "battery with mains": (BATTERY, MAINS),
    "battery with battery": (BATTERY, BATTERY),
}


@dataclass(frozen=True)
class Meetings:
    """What came of many meetings of 15 minutes. Means of the first device: listened (share), sightings, beats."""

    missed: dict[int, float]
    listened: float
    sightings: float
    beats: float


@dataclass(frozen=True)
class Unit:
    """Processor seconds of one of each."""

    submit: float
    check_record: float


@dataclass(frozen=True)
class Common:
    """What every curve has in common. Processor seconds: of a sighting, of keeping an encounter, of an idle second.

    bluez: what is on top of that where the radio is BlueZ's; None where it could not be measured
    """

    sighting: float
    keep: float
    idle: float
    bluez: bluez.Costs | None
    submission: exchange.Exchange
    heads: exchange.Exchange


@dataclass(frozen=True)
class Day:
    """What a day takes. Seconds and bytes."""

    duty: str
    maker: str
    contacts: int
    cpu: float
    on_air: float
    listening: float
    sent: float
    received: float


async def meetings(duties: tuple[Duty, Duty], runs: int) -> Meetings:
    """Many seeded meetings of 15 minutes, looked at after 5 and 10, too."""
    done = [await meet(LOSS, seed, MINUTES, duties) for seed in range(runs)]
    return Meetings(
        missed={minutes: 1 - statistics.fmean(run.met[at] for run in done) for at, minutes in enumerate(MINUTES)},
        listened=statistics.fmean(run.listened for run in done) / (MINUTES[-1] * 60),
        sightings=statistics.fmean(run.sightings[0] for run in done),
        beats=statistics.fmean(run.beats for run in done),
    )


def cpu_of(run: Callable[[], object], seconds: float) -> float:
    """Processor seconds of one run, the mean over about so many of them, and one before that does not count."""
    run()
    begun, times = time.process_time(), 0
    while time.process_time() - begun < seconds or times < 3:
        run()
        times += 1
    return (time.process_time() - begun) / times


def unit_of(maker: str, world: World, seconds: float) -> Unit:
    """Submitting a contact, up to the bytes, and checking the record in the answer, from its bytes."""
    parties = settle(open_curve(maker), world)
    first = world.submissions[0]
    answer = messages.pad(messages.encode(messages.Answer(record=world.contacts[0].record)), messages.ANSWER_SIZE)

    def check() -> None:
        record = messages.decode(messages.Answer, messages.unpad(answer)).record
        if record is not None:
            contact.check_record(parties.curve, RANDOM, parties.keys, first, record)

    return Unit(cpu_of(lambda: messages.encode(parties.submit(first.ccm)), seconds), cpu_of(check, seconds))


def keeping(world: World, folder: Path, seconds: float) -> float:
    """Processor seconds of writing one encounter in the middle of its epoch."""
    chance = random.Random(0)  # noqa: S311 (to be repeatable)
    samples = tuple(Sample(NOON + at * SAMPLE_SECONDS, 55.0) for at in range(int(EPOCH / 2 / SAMPLE_SECONDS)))
    found = [Encounter(chance.randbytes(32), 0, DAY, NOON, samples[-1].at, samples) for _ in range(FLUSHED)]
    store = joined.join(folder, world)
    try:
        return cpu_of(lambda: store.keep_encounters(found), seconds) / FLUSHED
    finally:
        store.close()


def common_of(world: World, seconds: float) -> Common:
    """What is measured once."""
    still = flood.run_flood(flood.nothing, 0)
    heads = messages.encode(messages.Heads(parameters=chain.EMPTY, publications=chain.EMPTY))
    submission = messages.encode(world.submissions[0])
    answer = messages.pad(messages.encode(messages.Answer(record=None)), messages.ANSWER_SIZE)
    with tempfile.TemporaryDirectory() as name:
        return Common(
            sighting=still.cpu_seconds / still.reports,
            keep=keeping(world, Path(name) / "kept", seconds),
            idle=agent.measure_idle(world, Path(name) / "idle", 10 * seconds),
            bluez=bluez.measure(),
            submission=exchange.measure(messages.SUBMISSION_PATH, submission, answer),
            heads=exchange.measure(messages.HEADS_PATH, None, heads),
        )


def day_of(duty: Duty, maker: str, contacts: int, unit: Unit, common: Common, heard: Meetings) -> Day:
    """A day, multiplied up."""
    radio = common.bluez or bluez.Costs(0.0, 0.0, 0.0)
    a_contact = (
        heard.sightings * (radio.report + common.sighting)
        + heard.beats * common.keep
        + SUBMISSIONS * (unit.submit + common.submission.cpu_seconds)
        + unit.check_record
    )
    together = min(contacts * CONTACT_SECONDS, SECONDS_A_DAY)  # one contact after another, as far as a day goes
    submissions = contacts * SUBMISSIONS
    always = (
        SECONDS_A_DAY * (common.idle + radio.frame * frames_a_second() + radio.scan * scans_a_second(duty))
        + EXCHANGES * common.heads.cpu_seconds
    )
    return Day(
        duty.name,
        maker,
        contacts,
        cpu=always + contacts * a_contact,
        on_air=SECONDS_A_DAY * sendings_a_second() * AIRTIME,
        listening=together * heard.listened + (SECONDS_A_DAY - together) * share_alone(duty),
        sent=submissions * common.submission.sent + EXCHANGES * common.heads.sent,
        received=submissions * common.submission.received + EXCHANGES * common.heads.received,
    )


def sendings_a_second() -> float:
    """Advertisements that BlueZ sends of the carousel."""
    return math.ceil(AS_BLUEZ.dwell / AS_BLUEZ.interval) * frames_a_second()


def frames_a_second() -> float:
    """Frames that are registered with BlueZ, one after another."""
    return 1 / (AS_BLUEZ.dwell + statistics.fmean(AS_BLUEZ.silence))


def scans_a_second(duty: Duty) -> float:
    """Windows that a duty begins."""
    return share_alone(duty) / duty.window


def share_alone(duty: Duty) -> float:
    """The share of the time that a device listens where nobody is near."""
    return 1.0 if math.isinf(duty.window) else duty.window / (duty.window + statistics.fmean(duty.pause))


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("energy", help="what a day of an agent takes, against the contacts it misses")
    parser.add_argument("--runs", type=int, default=300, help="meetings for each pair of duties (default 300)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor time for each thing (default 2)")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, multiply up, and print."""
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("measuring", total=len(PAIRS) + len(MAKERS) + 1)
        heard = {}
        for name, duties in PAIRS.items():
            heard[name] = asyncio.run(meetings(duties, options.runs))
            progress.advance(task)
        world = build(open_curve(), 1)
        units = {}
        for maker in MAKERS:
            units[maker] = unit_of(maker, world, options.seconds)
            progress.advance(task)
        common = common_of(world, options.seconds)
    days = [
        day_of(duty, maker, contacts, units[maker], common, heard[f"{duty.name} with {duty.name}"])
        for duty in (MAINS, BATTERY)
        for maker in MAKERS
        for contacts in CONTACTS
    ]
    if options.json:
        content = {
            "machine": machine(),
            "runs": options.runs,
            "loss": LOSS,
            "meetings": {name: asdict(one) for name, one in heard.items()},
            "units": {maker: asdict(unit) for maker, unit in units.items()},
            "common": asdict(common),
            "days": [asdict(day) for day in days],
        }
        print(json.dumps(content, indent=2))
        return 0
    _show_missed(heard, options.runs)
    _show_units(units, common)
    _show_days(days)
    return 0


def _show_missed(heard: dict[str, Meetings], runs: int) -> None:
    show(
        f"Missed contacts at 1 m, {LOSS:.0%} of single advertisements lost, by minutes together",
        ["duties", *(f"{minutes} min" for minutes in MINUTES), "listens", "sightings", "writes"],
        [
            [
                name,
                *(f"{share:.1%}" for share in one.missed.values()),
                f"{one.listened:.1%}",
                f"{one.sightings:.0f}",
                f"{one.beats:.0f}",
            ]
            for name, one in heard.items()
        ],
        f"Measured on the simulated radio, {runs} seeded runs a row: missed is what not both sides hold, with the same "
        "CCM and 60 s or longer. Listens: the first device, with the other near. Sightings and writes: its, in 15 min.",
    )


def _show_units(units: dict[str, Unit], common: Common) -> None:
    rows = [(f"submit a contact, {maker}", unit.submit) for maker, unit in units.items()]
    rows += [(f"check a record, {maker}", unit.check_record) for maker, unit in units.items()]
    rows += [
        ("take in a sighting", common.sighting),
        ("keep an encounter, each time", common.keep),
        ("exchange a submission for an answer over HTTP", common.submission.cpu_seconds),
        ("run for a second with nobody near", common.idle),
    ]
    if common.bluez:
        rows += [
            ("put a frame on air and take it off, over D-Bus", common.bluez.frame),
            ("begin a scan and end it, over D-Bus", common.bluez.scan),
            ("get a report from BlueZ through bleak", common.bluez.report),
        ]
    show(
        "One of each",
        ["what", "CPU ms"],
        [[name, f"{seconds * 1000:.3f}"] for name, seconds in rows],
        f"Measured. A submission is {common.submission.sent:.0f} bytes with HTTP's headers, its answer "
        f"{common.submission.received:.0f}; a look for news {common.heads.sent:.0f} and {common.heads.received:.0f}. "
        "What TCP, TLS, bluetoothd and the kernel take is not measured, nor what other devices' advertisements cost."
        + ("" if common.bluez else " What D-Bus takes is not measured here, for want of a dbus-daemon."),
    )


def _show_days(days: list[Day]) -> None:
    show(
        "One agent, one day",
        ["duty", "curve", "contacts", "CPU s", "s on air", "s listening", "kB sent", "kB received"],
        [
            [
                day.duty,
                day.maker,
                str(day.contacts),
                f"{day.cpu:.0f}",
                f"{day.on_air:.0f}",
                f"{day.listening:.0f}",
                f"{day.sent / 1000:.0f}",
                f"{day.received / 1000:.0f}",
            ]
            for day in days
        ],
        "Multiplied up from the two tables above: contacts of 15 minutes with one device each, spread over the day; "
        "1.5 submissions a contact (whoever comes first asks again); 48 looks for news, publications not counted. "
        f"On air: {sendings_a_second():.2f} advertisements a second of {AIRTIME * 1000:.2f} ms by the Core "
        "Specification, on three channels.",
        machine_text(),
    )
