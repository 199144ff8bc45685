"""One table of alterations: what is changed, in which field of which message, and with which error it is refused.

An alteration does everything that an attacker could do around its change (encode, prove, sign and seal anew), so that
it reaches the check that is meant for it. A field without an alteration must be excused in `EXCUSED`, with a reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.errors import SpotError
    from protocol.messages import Message
    from tests.support import World

    Attempt = Callable[[World], object]


@dataclass(frozen=True)
class Alteration:
    """An attempt that must be refused with exactly this error, whose text has this part."""

    name: str
    attempt: Attempt
    error: type[SpotError]
    text: str


TABLE: dict[tuple[type[Message], str], list[Alteration]] = defaultdict(list)

EXCUSED: dict[tuple[type[Message], str], str] = {
    (messages.Nonce, "nonce"): "reaches the issuer as JoinRequest.nonce",
    (messages.UserJoin, "invitation"): "is looked up in the authority's book, which is no part of this room",
    (messages.Submissions, "submissions"): "an envelope; each submission is checked by itself",
    (messages.Outcome, "partial"): "an envelope; checked as a Partial",
    (messages.Outcome, "refusal"): "see Refusal",
    (messages.Refusal, "slug"): "a server that lies about why can only delay, as one that does not answer",
    (messages.Refusal, "text"): "a text for people; nothing rests on it",
    (messages.Outcomes, "outcomes"): "an envelope; each partial signature is checked against its submission",
    (messages.Answer, "record"): "an envelope; checked as a ContactRecord",
    (messages.Answer, "refusal"): "a proxy's word, which is taken for no more",
    (messages.Heads, "parameters"): "an envelope; checked as a Head",
    (messages.Heads, "publications"): "an envelope; checked as a Head",
    (messages.Heads, "oldest"): "only says where to look; what is found there is checked by its issued_at",
}


def refused(kind: type[Message], field: str, error: type[SpotError], text: str) -> Callable[[Attempt], Attempt]:
    """Enter the attempt below as an alteration of this field."""

    def enter(attempt: Attempt) -> Attempt:
        name = attempt.__name__.strip("_") or "other"
        TABLE[kind, field].append(Alteration(f"{kind.__name__}.{field}-{name}", attempt, error, text))
        return attempt

    return enter


def alteration(kind: type[Message], field: str, error: type[SpotError], text: str, name: str, attempt: Attempt) -> None:
    """Enter an attempt under a name; for those made in loops."""
    TABLE[kind, field].append(Alteration(f"{kind.__name__}.{field}-{name}", attempt, error, text))
