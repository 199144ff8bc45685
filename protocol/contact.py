"""From a CCM to a signed contact record: submission, partial signature, extension (*S_PSign, P_Sign*).

The partial signature is that of Boneh, Lynn and Shacham; submission and extension are shows of a credential.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol import batch, credential, hashing, messages, randomness
from protocol.batch import Pairing
from protocol.credential import Purpose, Statement
from protocol.errors import Malformed, NotMine, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.batch import Claim
    from protocol.credential import Credential, IssuerKey
    from protocol.curve import G1, G2, Curve
    from protocol.randomness import Random


@dataclass(frozen=True, slots=True)
class ServerSecret:
    """ys of the server."""

    y: int = field(repr=False)


def new_server_key(curve: Curve, random: Random) -> tuple[ServerSecret, bytes]:
    """A fresh ys and its public Ys = ys·g~, 96 bytes."""
    secret = ServerSecret(randomness.scalar(random))
    return secret, (secret.y * curve.g2).encode()


# --- submission: user to server ---

BASES_KEPT = 1 << 13
"""Bases of tickets that are remembered: those of three days, as of one all users need the same ones."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a submission takes up of its sender's quota: the day it is sent on, and a number that is of use once a day.

    number: below the parameters' `limits.submissions`.
    """

    day: int
    number: int


def nullifier_base(curve: Curve, ccm: bytes) -> G1:
    """J: sk·J is the user's pseudonym for this contact and for no other."""
    return curve.hash_to_g1(hashing.NULLIFIER, hashing.joined(ccm))


@functools.lru_cache(BASES_KEPT)
def quota_base(curve: Curve, ticket: Ticket) -> G1:
    """J of the ticket: whoever submits twice on one ticket shows the same sk·J, and nobody else can show it."""
    return curve.hash_to_g1(hashing.QUOTA, hashing.joined(hashing.number(ticket.day), hashing.number(ticket.number)))


def submission_statement(curve: Curve, issuer: IssuerKey, ccm: bytes, day: int, ticket: Ticket) -> Statement:
    """What a submission proves: somebody registered under `issuer` submits this CCM for this day, on this ticket."""
    message = hashing.joined(ccm, *map(hashing.number, (day, ticket.day, ticket.number)))
    bases = nullifier_base(curve, ccm), quota_base(curve, ticket)
    return Statement(Purpose.SUBMISSION, issuer, bases, message)


def submit(
    curve: Curve, random: Random, own: Credential, issuer: IssuerKey, number: int, ccm: bytes, day: int, ticket: Ticket
) -> messages.Submission:
    """A submission under the user issuer of this number. The same user and CCM always give the same nullifier.

    ticket: never used for another CCM before, else the two can be told to be of one user.
    """
    shown = credential.show(random, own, submission_statement(curve, issuer, ccm, day, ticket))
    return messages.Submission(issuer=number, ccm=ccm, day=day, sent_day=ticket.day, ticket=ticket.number, show=shown)


def nullifiers_of(submission: messages.Submission) -> tuple[bytes, bytes]:
    """The nullifier of a submission and that of its ticket, 48 bytes each. Raises Malformed for other than two."""
    if len(submission.show.nullifiers) != 2:
        raise Malformed("a submission has exactly two nullifiers; the sender is broken")
    return submission.show.nullifiers[0], submission.show.nullifiers[1]


def nullifier_of(submission: messages.Submission) -> bytes:
    """The submission's nullifier, 48 bytes, the same for the same user and CCM. Raises as `nullifiers_of`."""
    return nullifiers_of(submission)[0]


def ticket_of(submission: messages.Submission) -> Ticket:
    """What the submission takes up of its sender's quota."""
    return Ticket(submission.sent_day, submission.ticket)


def submission_claim(curve: Curve, issuer: IssuerKey, submission: messages.Submission) -> Claim:
    """What must hold for a submission. Raises Malformed."""
    statement = submission_statement(curve, issuer, submission.ccm, submission.day, ticket_of(submission))
    return credential.show_claim(curve, statement, submission.show)


# --- partial signature: server to proxy ---


def _partial_point(curve: Curve, ccm: bytes, day: int, nullifier: bytes) -> G1:
    return curve.hash_to_g1(hashing.PARTIAL, hashing.joined(ccm, hashing.number(day), nullifier))


def sign_partially(curve: Curve, secret: ServerSecret, ccm: bytes, day: int, nullifier: bytes) -> bytes:
    """PS (*S_PSign*), 48 bytes; deterministic. The caller has seen two different nullifiers for the CCM."""
    return (secret.y * _partial_point(curve, ccm, day, nullifier)).encode()


def partial_claim(curve: Curve, server_key: G2, ccm: bytes, day: int, nullifier: bytes, partial: bytes) -> Claim:
    """e(PS, g~) = e(H1(PARTIAL, CCM ‖ day ‖ N), Ys). Raises Malformed."""
    signature = curve.decode_g1(partial, "the partial signature")
    point = _partial_point(curve, ccm, day, nullifier)
    return (Pairing(((signature, curve.g2), (-point, server_key))),)


# --- extension: proxy to user ---


def extension_statement(
    group: str, key: IssuerKey, ccm: bytes, day: int, nullifier: bytes, partial: bytes
) -> Statement:
    """What a proxy's signature π says, for its group."""
    message = hashing.joined(group.encode(), ccm, hashing.number(day), nullifier, partial)
    return Statement(Purpose.EXTENSION, key, (), message)


def answer_claim(curve: Curve, keys: SignerKeys, submission: messages.Submission, partial: messages.Partial) -> Claim:
    """What must hold for the server's answer to a submission. Raises Malformed, or NotMine or Refused for its key."""
    nullifier, key = nullifier_of(submission), keys.server(partial.server, submission.day)
    return partial_claim(curve, key, submission.ccm, submission.day, nullifier, partial.signature)


def check_partial(
    curve: Curve,
    random: Random,
    keys: SignerKeys,
    submission: messages.Submission,
    partial: messages.Partial,
) -> None:
    """What a proxy checks before it extends. Raises Malformed, Refused or NotMine."""
    if not batch.holds(curve, random, [answer_claim(curve, keys, submission, partial)]):
        raise Refused("the server's partial signature is wrong; its operator must be told")


def extend(
    random: Random,
    own: Credential,
    group: str,
    key: IssuerKey,
    submission: messages.Submission,
    partial: messages.Partial,
) -> messages.ContactRecord:
    """The finished contact record (*P_Sign*): the proxy's signature over a partial signature that was checked."""
    nullifier = nullifier_of(submission)
    statement = extension_statement(group, key, submission.ccm, submission.day, nullifier, partial.signature)
    return messages.ContactRecord(
        ccm=submission.ccm,
        day=submission.day,
        nullifier=nullifier,
        server=partial.server,
        partial=partial.signature,
        group=group,
        proof=credential.show(random, own, statement),
    )


# --- contact record: checked by the agent that gets it, and by the authority it is declared to ---


@dataclass(frozen=True, slots=True)
class SignerKeys:
    """Whose signatures a contact record must carry: the server's keys by number, and the groups' by name.

    ends: of keys that were replaced, the last day that a record under them may have.
    """

    servers: dict[int, G2]
    groups: dict[str, IssuerKey]
    ends: dict[int | str, int] = field(default_factory=dict)

    def server(self, number: int, day: int) -> G2:
        """The server's key of this number, for records of this day. Raises NotMine, Refused for too late a day."""
        if number not in self.servers:
            raise NotMine("the server's key of this record is not in the parameters; fetch them anew")
        self._check_end(number, day)
        return self.servers[number]

    def group(self, name: str, day: int) -> IssuerKey:
        """The key of this group, for records of this day. Raises NotMine, Refused for too late a day."""
        if name not in self.groups:
            raise NotMine("the proxy group of this record is not among the authority's; fetch the parameters anew")
        self._check_end(name, day)
        return self.groups[name]

    def _check_end(self, name: int | str, day: int) -> None:
        if day > self.ends.get(name, day):
            raise Refused("a key that signed this record was replaced before that day; another proxy will be asked")


def record_claims(curve: Curve, keys: SignerKeys, record: messages.ContactRecord) -> tuple[Claim, Claim]:
    """What must hold for a contact record: its PS, and its π (*Sig_Verify*). Raises Malformed, Refused or NotMine."""
    group, server = keys.group(record.group, record.day), keys.server(record.server, record.day)
    statement = extension_statement(record.group, group, record.ccm, record.day, record.nullifier, record.partial)
    curve.decode_g1(record.nullifier, "the record's nullifier")  # PS covers its bytes, whatever they are
    return (
        partial_claim(curve, server, record.ccm, record.day, record.nullifier, record.partial),
        credential.show_claim(curve, statement, record.proof),
    )


def check_record(
    curve: Curve,
    random: Random,
    keys: SignerKeys,
    submission: messages.Submission,
    record: messages.ContactRecord,
) -> None:
    """What an agent checks of a proxy's answer to its submission. Raises Malformed, Refused or NotMine."""
    if record.ccm != submission.ccm or record.nullifier != nullifier_of(submission):
        raise Refused("the proxy answered with another contact's record; another proxy will be asked")
    if record.day != submission.day:
        raise Refused("the proxy answered for another day; another proxy will be asked")
    claims: Sequence[Claim] = record_claims(curve, keys, record)
    if not batch.holds(curve, random, claims):
        raise Refused("the proxy's answer is not signed as it must be; another proxy will be asked")
