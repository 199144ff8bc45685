"""The two curve makers beside each other: what one accepts or refuses, the other does too.

py_ecc takes seconds for what arkworks does in milliseconds, so this is a target of its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from protocol import batch, contact, credential, curve, messages, parameters
from protocol.errors import Malformed, NotMine, Refused
from protocol.messages import ContactRecord, JoinRequest, Partial, Submission
from scripts.fuzzing.target import Target, by_mode, is_told_well, with_mode
from tests.support import Source, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol.curve import Curve
    from protocol.parameters import Keys

WORLD = world_of("arkworks")
ONE = WORLD.contacts[0]
NAMES = ("arkworks", "py_ecc")


@cache
def _maker(name: str) -> tuple[Curve, Keys]:
    maker = curve.open_curve(name)
    return maker, parameters.read_keys(maker, WORLD.parameters)


def seeds() -> Iterator[bytes]:
    """What honest parties send, of the kinds that cost least, and records that fail early."""
    yield with_mode("join", messages.encode(WORLD.alice.request))
    yield with_mode("partial", messages.encode(ONE.partial))
    yield with_mode("record", messages.encode(ONE.record).replace(ONE.record.proof.k, bytes(48)))
    yield with_mode("submission", messages.encode(ONE.submission).replace(ONE.submission.show.k, bytes(48)))


def _random() -> Source:
    return Source("weights")


def _record(maker: Curve, keys: Keys, data: bytes) -> None:
    contact.check_record(maker, _random(), keys.signers, ONE.submission, messages.decode(ContactRecord, data))


def _submission(maker: Curve, keys: Keys, data: bytes) -> None:
    submission = messages.decode(Submission, data)
    contact.nullifier_of(submission)
    claim = contact.submission_claim(maker, keys.issuer(submission.issuer), submission)
    if not batch.holds(maker, _random(), [claim]):
        raise Refused("the proof does not hold")


def _partial(maker: Curve, keys: Keys, data: bytes) -> None:
    contact.check_partial(maker, _random(), keys.signers, ONE.submission, messages.decode(Partial, data))


def _join(maker: Curve, keys: Keys, data: bytes) -> None:
    request = messages.decode(JoinRequest, data)
    credential.issue(maker, _random(), WORLD.users.secret, keys.issuers[1], request, WORLD.alice.nonce)


def _by_both(work: Callable[[Curve, Keys, bytes], None]) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        found = []
        for name in NAMES:
            try:
                work(*_maker(name), data)
                found.append("accepted")
            except (Malformed, Refused, NotMine) as error:
                is_told_well(error)
                found.append(error.slug)  # what exactly is wrong with a point, they may see differently
        assert found[0] == found[1], f"the curve makers differ: {found}"

    return check


CHECKS = {
    "record": _by_both(_record),
    "submission": _by_both(_submission),
    "partial": _by_both(_partial),
    "join": _by_both(_join),
}

TARGET = Target(
    name="makers",
    about="records, submissions, partial signatures and joins by arkworks and by py_ecc: slow",
    modules=("protocol.contact", "protocol.credential", "protocol.curve.portable", "protocol.curve.arkworks"),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    seconds=200,
)
