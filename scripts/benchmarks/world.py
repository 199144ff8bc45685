"""A small world to measure in: one user, one proxy, one server, and contacts between the user and others."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import contact, credential, encounter, messages
from protocol.credential import Holder

if TYPE_CHECKING:
    from protocol.curve import Curve

RANDOM = secrets.token_bytes
GROUP = "north"
ISSUER = 1
SERVER = 1
DAY = 20_000
TICKETS = (contact.Ticket(DAY, number) for number in itertools.count())


@dataclass(frozen=True)
class World:
    """Everybody's keys and messages as bytes, so that any maker can take them up."""

    users: messages.IssuerPublic
    group: messages.IssuerPublic
    server_key: bytes
    server_secret: contact.ServerSecret
    user: tuple[int, messages.Issued]
    proxy: tuple[int, messages.Issued]
    submissions: tuple[messages.Submission, ...]
    contacts: tuple[messages.DeclaredContact, ...]

    def partial(self, index: int) -> messages.Partial:
        """The server's signature in the record of this index."""
        return messages.Partial(server=SERVER, signature=self.contacts[index].record.partial)


@dataclass(frozen=True)
class Parties:
    """The same keys, decoded by one maker."""

    curve: Curve
    users: credential.IssuerKey
    user: credential.Credential
    proxy: credential.Credential
    keys: contact.SignerKeys
    server_secret: contact.ServerSecret

    def submit(self, ccm: bytes) -> messages.Submission:
        """The user submits this CCM."""
        return contact.submit(self.curve, RANDOM, self.user, self.users, ISSUER, ccm, DAY, next(TICKETS))

    def sign_partially(self, submission: messages.Submission) -> bytes:
        """The server signs for this submission."""
        nullifier = contact.nullifier_of(submission)
        return contact.sign_partially(self.curve, self.server_secret, submission.ccm, DAY, nullifier)

    def extend(self, submission: messages.Submission, partial: messages.Partial) -> messages.ContactRecord:
        """The proxy signs for this submission."""
        return contact.extend(RANDOM, self.proxy, GROUP, self.keys.groups[GROUP], submission, partial)


def build(curve: Curve, count: int) -> World:
    """A world with so many contacts of one user, all signed."""
    user_secret, users = credential.new_issuer(curve, RANDOM, Holder.USER)
    group_secret, group = credential.new_issuer(curve, RANDOM, Holder.PROXY)
    server_secret, server_key = contact.new_server_key(curve, RANDOM)
    user = _join(curve, user_secret, credential.read_issuer(curve, Holder.USER, users))
    proxy = _join(curve, group_secret, credential.read_issuer(curve, Holder.PROXY, group))
    world = World(users, group, server_key, server_secret, user, proxy, (), ())
    parties = settle(curve, world)
    submissions, contacts = [], []
    for _ in range(count):
        secret = RANDOM(encounter.SECRET_SIZE)
        submission = parties.submit(encounter.ccm_of(secret))
        partial = messages.Partial(server=SERVER, signature=parties.sign_partially(submission))
        record = parties.extend(submission, partial)
        submissions.append(submission)
        contacts.append(messages.DeclaredContact(record=record, secret=secret, role=0))
    return World(users, group, server_key, server_secret, user, proxy, tuple(submissions), tuple(contacts))


def settle(curve: Curve, world: World) -> Parties:
    """The world's keys on this curve."""
    users = credential.read_issuer(curve, Holder.USER, world.users)
    group = credential.read_issuer(curve, Holder.PROXY, world.group)
    keys = contact.SignerKeys({SERVER: curve.decode_g2(world.server_key, "the server's key")}, {GROUP: group})
    user = credential.accept(curve, world.user[0], users, world.user[1])
    proxy = credential.accept(curve, world.proxy[0], group, world.proxy[1])
    return Parties(curve, users, user, proxy, keys, world.server_secret)


def _join(curve: Curve, secret: credential.IssuerSecret, key: credential.IssuerKey) -> tuple[int, messages.Issued]:
    own, nonce = credential.new_secret(RANDOM), RANDOM(32)
    request = credential.join(curve, RANDOM, own, key, nonce)
    return own, credential.issue(curve, RANDOM, secret, key, request, nonce)
