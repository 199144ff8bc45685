"""What server and proxy both check of submissions, as neither trusts the other; and how the one tells the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import batch, contact, parameters
from protocol.errors import Malformed, NotMine, QuotaRefused, Refused, SpotError, error_named
from protocol.messages import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend_stub.following.parameters import Known
    from protocol.batch import Claim
    from protocol.curve import Curve
    from protocol.messages import Submission
    from protocol.randomness import Random


def check_submissions(
    curve: Curve, random: Random, known: Known, submissions: Sequence[Submission]
) -> dict[int, SpotError]:
    """Why submissions are refused, by their index: all proofs at once, and each bad one named."""
    refusals: dict[int, SpotError] = {}
    claims: list[Claim] = []
    owners: list[int] = []
    for index, one in enumerate(submissions):
        try:
            contact.nullifiers_of(one)
            parameters.check_ticket(known.parameters, one.ticket)
            parameters.check_issuer_day(known.parameters, one.issuer, one.day)
            claims.append(contact.submission_claim(curve, known.keys.issuer(one.issuer), one))
            owners.append(index)
        except SpotError as error:
            refusals[index] = error
    for failed in batch.failing(curve, random, claims) if claims else ():
        refusals[owners[failed]] = Refused(
            "the proof of a valid credential does not hold: it was altered on the way, or its maker never joined"
        )
    return refusals


TEXT_LENGTH = 300  # characters
REASONS = (Malformed, NotMine, QuotaRefused, Refused)


def refusal_of(error: SpotError) -> Refusal:
    """A refusal as it travels from the server to a proxy, and from there to the agent; its text in ASCII."""
    return Refusal(slug=error.slug, text=error.text.encode("ascii", "replace").decode()[:TEXT_LENGTH])


def error_of(refusal: Refusal) -> SpotError:
    """The error that a server's refusal names; of other kinds there are none about a submission."""
    kind = error_named(refusal.slug)
    return kind(refusal.text) if kind in REASONS else Refused(refusal.text)
