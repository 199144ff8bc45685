"""Many users at little cost: they have joined, their submissions are made ahead, and nothing of them is on a disk.

A light client sends what an agent sends, by the same rules. Of its shows, A, B and D are made once a user, not for
each submission: that costs the backend the same, and would link submissions if there were somebody behind them.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent import account, transport
from backend_stub.authority import join as joining
from backend_stub.authority import service as authority
from protocol import contact, credential, messages
from protocol.credential import Holder, Randomised
from protocol.curve import open_curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backend_stub.clock import Clock
    from protocol.credential import Credential
    from protocol.messages import Issued, IssuerPublic

STEP = 100  # contacts between two notices of progress


@dataclass(frozen=True)
class Crowd:
    """Users with credentials, and where they submit: all that another process needs to know."""

    issuer: IssuerPublic
    number: int
    members: tuple[tuple[int, Issued], ...]
    proxies: tuple[str, ...]
    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a contact: what is sent, and what must come back in the record."""

    ccm: bytes
    nullifier: bytes
    day: int
    body: bytes


async def gather(folder: Path, count: int, day: int, clock: Clock | None = None) -> Crowd:
    """Have so many users join the backend in this folder, as `spot join` does. Raises SpotError."""
    async with authority.opened(folder / authority.FOLDER, clock) as office:
        url, invitations = office.told.url, await joining.invite(office, count)
    trusted = (await account.fetch_authority(url))[-1][0]
    issuers = [one for one in trusted.parameters.issuers if one.from_day <= day <= one.until_day]
    newest = max(issuers, key=lambda one: one.from_day)
    proxies = tuple(url for group in trusted.parameters.groups for url in group.proxies)
    crowd = Crowd(newest.key, newest.number, (), proxies, trusted.parameters.roots)
    members = [await _join(url, crowd, invitation) for invitation in invitations]
    return replace(crowd, members=tuple(members))


async def _join(url: str, crowd: Crowd, invitation: str) -> tuple[int, Issued]:
    curve, chance = open_curve(), random.SystemRandom()
    key = credential.read_issuer(curve, Holder.USER, crowd.issuer)
    secret = credential.new_secret(chance.randbytes)
    said = await transport.post(url, messages.NONCE_PATH, b"", trust=crowd.roots)
    nonce = messages.decode(messages.Nonce, said).nonce
    request = credential.join(curve, chance.randbytes, secret, key, nonce)
    asked = messages.UserJoin(invitation=invitation, issuer=crowd.number, join=request)
    answer = await transport.post(url, messages.JOIN_PATH, messages.encode(asked), trust=crowd.roots)
    return secret, messages.decode(messages.Issued, answer)


class Maker:
    """Makes contacts between users drawn for each; the same ones for the same seed, but for the proofs.

    first_ticket: from which tickets are used, one a contact; other makers for this crowd must not come so far.
    """

    def __init__(self, crowd: Crowd, seed: str, first_ticket: int = 0) -> None:
        self._tickets = itertools.count(first_ticket)
        self._curve = open_curve()
        self._crowd = crowd
        self._drawn = random.Random(seed)  # noqa: S311 (what is drawn is no secret: the backend sees all of it)
        self._key = credential.read_issuer(self._curve, Holder.USER, crowd.issuer)
        self._members = [self._ready(*member) for member in crowd.members]

    def _ready(self, secret: int, issued: Issued) -> tuple[Credential, Randomised]:
        own = credential.accept(self._curve, secret, self._key, issued)
        return own, credential.randomise(random.SystemRandom().randbytes, own)

    def sides(self, day: int, sent_day: int, users: int = 2) -> tuple[Side, ...]:
        """The sides of one contact on this day: two, or one whose peer never comes. sent_day: today."""
        ccm, ticket = self._drawn.randbytes(32), contact.Ticket(sent_day, next(self._tickets))
        statement = contact.submission_statement(self._curve, self._key, ccm, day, ticket)
        chance = random.SystemRandom()
        found = []
        for own, randomised in self._drawn.sample(self._members, users):
            shown = credential.show(chance.randbytes, own, statement, randomised)
            submission = messages.Submission(
                issuer=self._crowd.number, ccm=ccm, day=day, sent_day=ticket.day, ticket=ticket.number, show=shown
            )
            found.append(Side(ccm, contact.nullifier_of(submission), day, messages.encode(submission)))
        return tuple(found)


def make(maker: Maker, day: int, count: int, made: Callable[[int], None]) -> list[tuple[Side, ...]]:
    """So many contacts of this day, which is today, two sides each; `made` hears of every hundred."""
    contacts = []
    for number in range(count):
        contacts.append(maker.sides(day, day))
        if number % STEP == STEP - 1:
            made(STEP)
    return contacts
