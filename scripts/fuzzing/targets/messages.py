"""Every message of the protocol out of any bytes, and padding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from protocol import messages
from protocol.errors import Malformed
from protocol.messages import Message
from scripts.fuzzing.target import Target, by_mode, is_told_well, with_mode
from tests.support import world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = {kind.__name__: kind for kind in Message.__subclasses__() if kind.__module__ == messages.__name__}
PADDED = "padded"
_DEFAULTS = 64  # times as large fields that were left out may make a message at most


def seeds() -> Iterator[bytes]:
    """Messages of all kinds as honest parties make them."""
    world = world_of("arkworks")
    one = world.contacts[0]
    receipt = messages.Receipt(accepted=True, text="thank you", reasons=b"\0\1", reference="ABCD", days=(20_000,))
    head = messages.Head(number=3, hash=bytes(32))
    day = messages.PublishedDay(day=20_000, level=2, tokens=bytes(32))
    issuer, group, risk = world.parameters.issuers[0], world.parameters.groups[0], world.parameters.risk
    honest: list[Message] = [
        world.users.public,
        messages.Nonce(nonce=bytes(32)),
        world.removed.request,
        messages.UserJoin(invitation="ABCD", issuer=1, join=world.alice.request),
        messages.Renewal(issuer=2, join=world.alice.request),
        world.alice.issued,
        one.submission.show,
        one.submission,
        messages.Submissions(submissions=(one.submission,)),
        one.partial,
        messages.Outcome(refusal=messages.Refusal(slug="refused", text="no")),
        messages.Outcomes(outcomes=(messages.Outcome(partial=one.partial), messages.Outcome())),
        one.record,
        messages.Answer(record=one.record),
        one.declared,
        world.body,
        world.report,
        messages.SealedReport(parameters=bytes(32), sealed=bytes(40)),
        receipt,
        world.genesis,
        head,
        messages.Heads(parameters=head, publications=head, oldest=1),
        issuer,
        world.parameters.server_keys[0],
        world.parameters.publication_keys[0],
        group,
        risk.bands[0],
        risk,
        world.parameters.onset[0],
        world.parameters.limits,
        world.parameters,
        day,
        messages.Publication(number=0, previous=bytes(32), issued_at=1, days=(day,)),
    ]
    for message in honest:
        yield with_mode(type(message).__name__, messages.encode(message))
    yield with_mode(PADDED, messages.pad(messages.encode(head), 128))


def _decoding(kind: type[Message]) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        try:
            message = messages.decode(kind, data)
        except Malformed as error:
            is_told_well(error)
            return
        encoded = messages.encode(message)
        again = messages.decode(kind, encoded)
        assert again == message
        assert messages.encode(again) == encoded, "one encoding for one message"
        assert len(encoded) <= len(data) * _DEFAULTS
        _check_same(msgspec.to_builtins(message, builtin_types=(bytes,)), msgspec.msgpack.decode(data))
        assert repr(message) == f"<{kind.__name__}>"

    return check


def _check_same(read: Any, said: Any) -> None:
    """What was read is what stands there, to a reader that knows nothing of messages, in the same types."""
    if isinstance(read, dict):
        assert said.keys() <= read.keys()
        for name, value in said.items():
            _check_same(read[name], value)
    elif isinstance(read, list | tuple):
        assert len(read) == len(said)
        for one, other in zip(read, said, strict=True):
            _check_same(one, other)
    elif isinstance(read, float):
        assert math.isfinite(read)
        assert read == said
    else:
        assert type(read) is type(said)
        assert read == said


def _unpad(data: bytes) -> None:
    try:
        plain = messages.unpad(data)
    except Malformed as error:
        is_told_well(error)
        return
    assert messages.pad(plain, len(data)) == data, "one padding for one message"


CHECKS = {name: _decoding(kind) for name, kind in KINDS.items()} | {PADDED: _unpad}

TARGET = Target(
    name="messages",
    about="every message of the protocol, and padding",
    modules=("protocol.messages",),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    longest=16_384,
)
