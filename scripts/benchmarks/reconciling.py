"""What everybody has after scripts/bench faults, held against what the backend wrote down."""

from __future__ import annotations

import multiprocessing
import secrets
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend_stub.authority.join import hash_of
from protocol import batch, contact, messages, parameters
from protocol.curve import open_curve
from protocol.declaration import normal_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from protocol.messages import Parameters
    from scripts.benchmarks.real_agents import Journal
    from scripts.benchmarks.volume import Ledger

BATCH = 500  # records verified at once
WORKERS = 2

Recorded = dict[tuple[bytes, bytes], tuple[int, bool]]
"""The day, and whether it is signed, by (CCM, nullifier)."""


@dataclass(frozen=True)
class Office:
    """What the authority wrote down. codes: the digest of the report that spent a code, by the code's hash."""

    codes: dict[bytes, bytes | None]
    reported: set[bytes]
    published: Counter[bytes]
    waiting: set[bytes]


@dataclass
class Findings:
    """Broken promises by name, and how much was looked at. What is no number here is 0."""

    broken: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, wrong: int) -> None:
        """So many times this promise was broken."""
        self.broken[name] += wrong

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.broken.values())


LOST = "accepted submissions lost"
ALONE = "contacts signed without two sides"
INVALID = "records that do not verify"
INCOMPLETE = "contacts never completed"
SPENT = "codes spent without an accepted list"
UNSPENT = "lists accepted without a spent code"
TOKENS = "tokens lost or published twice"
UNFINISHED = "declarations never answered"
UNWARNED = "exposures never found"
PROMISES = (LOST, ALONE, INVALID, INCOMPLETE, SPENT, UNSPENT, TOKENS, UNFINISHED, UNWARNED)


def reconcile(ledger: Ledger, journal: Journal, recorded: Recorded, office: Office, rules: Parameters) -> Findings:
    """Everybody's own record against the backend's, and each record against the keys."""
    findings = Findings(Counter(dict.fromkeys(PROMISES, 0)))
    _submissions(findings, ledger, journal, recorded)
    records = [*_records(ledger), *(one.record for one in journal.held if one.record is not None)]
    findings.counted["records verified"] = len(records)
    findings.add(INVALID, _invalid(records, rules))
    _declarations(findings, journal, office)
    findings.add(UNWARNED, journal.unwarned)
    findings.counted["exposures found"] = journal.warned
    return findings


def _submissions(findings: Findings, ledger: Ledger, journal: Journal, recorded: Recorded) -> None:
    lines = [line for lines in (*ledger.pairs, *ledger.lonely) for line in lines]
    accepted = [line for line in lines if line.accepted]
    findings.counted["sides accepted of light clients"] = len(accepted)
    findings.add(LOST, sum((line.ccm, line.nullifier) not in recorded for line in accepted))
    signed = [messages.decode(messages.ContactRecord, record) for record in _records(ledger)]
    agents = [messages.decode(messages.ContactRecord, one.record) for one in journal.held if one.record]
    findings.counted["contacts of real agents, each side"] = len(journal.held)
    findings.add(LOST, sum(recorded.get((one.ccm, one.nullifier)) != (one.day, True) for one in (*signed, *agents)))
    sides: dict[bytes, set[bytes]] = defaultdict(set)
    for ccm, nullifier in recorded:
        sides[ccm].add(nullifier)
    of_server = (ccm for (ccm, _), (_, is_signed) in recorded.items() if is_signed)
    findings.add(ALONE, sum(len(sides[ccm]) < 2 for ccm in of_server))
    findings.add(ALONE, sum(line.record is not None for lines in ledger.lonely for line in lines))
    findings.add(ALONE, sum(len(sides[one.ccm]) < 2 for one in (*signed, *agents)))
    findings.add(INCOMPLETE, sum(line.record is None for lines in ledger.pairs for line in lines))
    findings.add(INCOMPLETE, sum(one.state != "signed" for one in journal.held))
    findings.counted["contacts of light clients with one side"] = len(ledger.lonely)
    findings.counted["contacts of light clients with two sides"] = len(ledger.pairs)


def _records(ledger: Ledger) -> Iterator[bytes]:
    return (line.record for lines in (*ledger.pairs, *ledger.lonely) for line in lines if line.record is not None)


def _declarations(findings: Findings, journal: Journal, office: Office) -> None:
    accepted = [one for one in journal.declared if one.accepted]
    of_agents = {hash_of(normal_code(one.code)): one for one in accepted}
    spent = {code for code, digest in office.codes.items() if digest is not None}
    findings.counted["lists accepted"] = len(accepted)
    findings.add(UNFINISHED, sum(not one.accepted for one in journal.declared))
    declared = {nullifier for one in accepted for nullifier in one.nullifiers}
    findings.add(SPENT, len(spent - set(of_agents)) + len(office.reported - declared))
    findings.add(UNSPENT, len(set(of_agents) - spent) + len(declared - office.reported))
    tokens = {token for one in accepted for token in one.tokens}
    findings.counted["tokens declared"] = len(tokens)
    findings.add(TOKENS, sum(office.published[token] + (token in office.waiting) != 1 for token in tokens))


def _invalid(records: Sequence[bytes], rules: Parameters) -> int:
    parts = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as workers:
        return sum(workers.map(_invalid_of, parts, [messages.encode(rules)] * len(parts)))


def _invalid_of(records: Iterable[bytes], rules: bytes) -> int:
    curve = open_curve()
    keys = parameters.read_keys(curve, messages.decode(messages.Parameters, rules)).signers
    decoded = [messages.decode(messages.ContactRecord, one) for one in records]
    claims = [claim for one in decoded for claim in contact.record_claims(curve, keys, one)]
    return len(batch.failing(curve, secrets.token_bytes, claims))
