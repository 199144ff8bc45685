"""scripts/bench match: what it takes an agent to look for its encounters in what the authority publishes.

The agent's way: each link of the chain from its bytes, signature and hash, then the tokens of all encounters in its
sealed store looked up. Beside it the floor: the same bytes read, and each published token looked up once in a set.
Each is a process of its own, so that its memory is told apart.
"""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.progress import Progress

from agent.kept import Encounter, State
from agent.store import create_store
from protocol import chain, messages, publication
from protocol.encounter import SECONDS_A_DAY, TOKEN_SIZE, token_of
from scripts.benchmarks.tables import machine, machine_text, notes, show
from scripts.benchmarks.world import DAY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from protocol.messages import Link

TOKENS = (10**6, 10**7)
OWN = 10_000
DAYS = 14  # over which encounters and publications are spread
LEVELS = (1, 2)
FOUND = 100  # of the own encounters are published
SPAN = 60.0  # seconds
KEY, LINKS, STORE = "key", "links", "store"


def write_store(folder: Path, own: int) -> list[tuple[bytes, int]]:
    """A store with so many encounters; the tokens that peers of some of them would declare, with their days."""
    chance = random.Random(0)  # noqa: S311 (to be repeatable)
    store = create_store(folder, "file", secrets.token_bytes)
    encounters = []
    for number in range(own):
        day = DAY - number % DAYS
        first = day * float(SECONDS_A_DAY)
        secret, role = chance.randbytes(32), number % 2
        encounters.append(Encounter(secret, role, day, first, first + SPAN, (), state=State.SIGNED))
    try:
        store.keep_encounters(encounters)
    finally:
        store.close()
    return [(token_of(one.secret, 1 - one.role), one.day) for one in encounters[:FOUND]]


def write_links(folder: Path, count: int, declared: list[tuple[bytes, int]]) -> int:
    """A chain of publications of about so many tokens, a file a link; returns how many tokens there are."""
    folder.mkdir(parents=True)
    key = Ed25519PrivateKey.generate()
    (folder / KEY).write_bytes(key.public_key().public_bytes_raw())
    head, total = chain.EMPTY, 0
    for day in _days(count, declared):
        for start in range(0, len(day.tokens), publication.MOST_TOKENS * TOKEN_SIZE):
            tokens = day.tokens[start : start + publication.MOST_TOKENS * TOKEN_SIZE]
            one = messages.Publication(
                number=head.number + 1,
                previous=head.hash,
                issued_at=DAY * SECONDS_A_DAY,
                days=(messages.PublishedDay(day=day.day, level=day.level, tokens=tokens),),
            )
            (folder / f"{one.number:06}").write_bytes(messages.encode(publication.sign(key, one)))
            head = messages.Head(number=one.number, hash=publication.hash_of(one))
            total += len(tokens) // TOKEN_SIZE
    return total


def _days(count: int, declared: list[tuple[bytes, int]]) -> Iterator[messages.PublishedDay]:
    each = count // (DAYS * len(LEVELS))
    for back in range(DAYS):
        day = DAY - back
        for level in LEVELS:
            drawn = secrets.token_bytes(each * TOKEN_SIZE)
            tokens = [drawn[start : start + TOKEN_SIZE] for start in range(0, len(drawn), TOKEN_SIZE)]
            if level == LEVELS[-1]:
                tokens += [token for token, own_day in declared if own_day == day]
            yield messages.PublishedDay(day=day, level=level, tokens=b"".join(sorted(tokens)))


def read_links(folder: Path) -> Iterator[tuple[int, Link]]:
    """The links in the order of the chain, with the bytes that each takes."""
    for file in sorted(folder.glob("[0-9]*")):
        data = file.read_bytes()
        yield len(data), messages.decode(messages.Link, data)


def measure(tokens: tuple[int, ...], own: int) -> list[dict[str, Any]]:
    """A row for each number of tokens."""
    rows = []
    with Progress(console=notes, transient=True) as progress, tempfile.TemporaryDirectory() as name:
        task = progress.add_task("making publications", total=3 * len(tokens))
        folder = Path(name)
        declared = write_store(folder / STORE, own)
        for count in tokens:
            links = folder / f"{LINKS}-{count}"
            total = write_links(links, count, declared)
            progress.update(task, advance=1, description="looking through publications")
            agent = _child("agent", links, folder / STORE)
            progress.advance(task)
            floor = _child("floor", links, folder / STORE)
            progress.advance(task)
            if not agent["found"] == floor["found"] == min(FOUND, own):
                raise RuntimeError(f"of {FOUND} tokens {agent['found']} were found, by the floor {floor['found']}")
            rows.append({"tokens": total, "own": own, "agent": agent, "floor": floor})
    return rows


def _child(what: str, links: Path, store: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.benchmarks.match_process", what, str(links), str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def add_to(subjects: Any) -> None:
    """Add this subject to the command line."""
    parser = subjects.add_parser("match", help="looking for one's encounters in large publications")
    parser.add_argument("--tokens", type=int, action="append", help="published (default 1000000 and 10000000)")
    parser.add_argument("--own", type=int, default=OWN, help=f"encounters in the store (default {OWN})")
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print. Returns 1 where looking takes longer than the floor."""
    rows = measure(tuple(options.tokens or TOKENS), options.own)
    slower = [row for row in rows if row["agent"]["look"] > row["floor"]["seconds"]]
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))
        return int(bool(slower))
    show(
        f"{options.own:,} encounters looked for in publications, processor seconds",
        ["tokens", "links", "MB", "own tokens", "look", "floor", "check chain", "in all", "memory", "floor's"],
        [
            [
                f"{row['tokens']:,}",
                str(row["agent"]["links"]),
                f"{row['agent']['bytes'] / 1e6:.0f}",
                f"{row['agent']['own']:.3f}",
                f"{row['agent']['look']:.3f}",
                f"{row['floor']['seconds']:.3f}",
                f"{row['agent']['check']:.3f}",
                f"{row['agent']['own'] + row['agent']['look'] + row['agent']['check']:.3f}",
                f"{row['agent']['megabytes']:.1f} MB",
                f"{row['floor']['megabytes']:.1f} MB",
            ]
            for row in rows
        ],
        "MB: what is downloaded, in links of at most 1 MiB of tokens. Own tokens: read from the sealed store and "
        "worked out, once a sync. Look: all publications. Floor: the same bytes read, one look into a set for each "
        "published token, nothing checked. Check chain: reading, decoding, hash, signature. Memory: what all of it "
        "took at most, beyond what the process had before.",
        machine_text(),
    )
    return int(bool(slower))
