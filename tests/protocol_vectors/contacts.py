"""Contacts between the cast: from encounter to signed record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from protocol import contact, encounter, messages
from tests.protocol_vectors.cast import replaced
from tests.protocol_vectors.making import stream
from tests.protocol_vectors.plain import read_scalar

if TYPE_CHECKING:
    from tests.protocol_vectors.cast import Cast, Member
    from tests.protocol_vectors.plain import Values

DAY = 20_000
NUMBER = 1  # of the issuer of users
TICKET = contact.Ticket(DAY + 1, 3)
SERVER = 1  # of the server's key


@dataclass
class Contacts:
    """Some contacts of Ada's and one of Ben's, all signed."""

    cast: Cast

    @cached_property
    def server_key(self) -> str:
        """Ys."""
        secret = contact.ServerSecret(read_scalar(self.cast.server["server_secret"]))
        return (secret.y * self.cast.curve.g2).encode().hex()

    def secret(self, name: str) -> bytes:
        """E of this encounter."""
        return stream(f"encounter {name}")(32)

    def submission(self, member: Member, name: str, day: int = DAY) -> messages.Submission:
        """The member's submission."""
        ccm, random = encounter.ccm_of(self.secret(name)), stream(f"submission {member.name} {name}")
        return contact.submit(self.cast.curve, random, member.own, member.issuer.key, NUMBER, ccm, day, TICKET)

    def partial(self, submission: messages.Submission) -> messages.Partial:
        """The server's answer."""
        secret = contact.ServerSecret(read_scalar(self.cast.server["server_secret"]))
        nullifier = contact.nullifier_of(submission)
        signature = contact.sign_partially(self.cast.curve, secret, submission.ccm, submission.day, nullifier)
        return messages.Partial(server=SERVER, signature=signature)

    def bad_record(self, member: Member, name: str) -> messages.ContactRecord:
        """A record whose nullifier is no point, but is signed for by a dishonest server and proxy."""
        submission = self.submission(member, name)
        return self._signed(
            replaced(
                submission, show=replaced(submission.show, nullifiers=(bytes(48), *submission.show.nullifiers[1:]))
            ),
            member,
            name,
        )

    def record(self, member: Member, name: str, proxy: Member | None = None, day: int = DAY) -> messages.ContactRecord:
        """The finished record."""
        return self._signed(self.submission(member, name, day), member, name, proxy)

    def _signed(
        self, submission: messages.Submission, member: Member, name: str, proxy: Member | None = None
    ) -> messages.ContactRecord:
        signer = proxy or self.cast.proxy
        random = stream(f"record {member.name} {name} {signer.name}")
        key = self.cast.north.key
        return contact.extend(random, signer.own, "north", key, submission, self.partial(submission))

    def declared(self, record: messages.ContactRecord, name: str, role: int = 0) -> Values:
        """A contact of a report, as vectors give it."""
        return {"record": messages.encode(record).hex(), "secret": self.secret(name).hex(), "role": role}

    @property
    def keys(self) -> Values:
        """Whose signatures count."""
        return {
            "servers": {str(SERVER): self.server_key},
            "groups": {"north": self.cast.north.key.encoded.hex()},
            "ends": {},
        }
