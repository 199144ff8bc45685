"""Makes messages.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol import chain, messages
from tests.protocol_vectors.cast import Cast, as_hex
from tests.protocol_vectors.contacts import DAY, NUMBER, Contacts
from tests.protocol_vectors.making import File, stream
from tests.protocol_vectors.plain import plain

if TYPE_CHECKING:
    from protocol.curve import Curve


def make_messages(curve: Curve) -> File:
    """One of each message, and malformed ones."""
    file = File("Messages, their fields and their bytes; padding. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    cast, random = contacts.cast, stream("messages")
    submission, record = contacts.submission(cast.ada, "1"), contacts.record(cast.ada, "1")
    partial = contacts.partial(submission)
    refusal = messages.Refusal(slug="refused", text="too old")
    head = messages.Head(number=3, hash=random(32))
    join = messages.JoinRequest(
        nonce=random(32), public=record.nullifier, challenge=bytes(32), answer=(1).to_bytes(32, "big")
    )
    examples: dict[str, messages.Message] = {
        "a nonce": messages.Nonce(nonce=random(32)),
        "a user's join": messages.UserJoin(invitation="ABCD-EFGH-IJKL-2345", issuer=NUMBER, join=join),
        "two submissions": messages.Submissions(submissions=(submission, contacts.submission(cast.ben, "1"))),
        "outcomes: signed, refused, pending": messages.Outcomes(
            outcomes=(
                messages.Outcome(partial=partial),
                messages.Outcome(refusal=refusal),
                messages.Outcome(),
            )
        ),
        "an answer: pending": messages.Answer(),
        "an answer": messages.Answer(record=record),
        "an answer: refused": messages.Answer(refusal=refusal),
        "a contact record": record,
        "heads": messages.Heads(parameters=head, publications=chain.EMPTY),
        "a receipt": messages.Receipt(accepted=False, problem="code-refused", text="used", reasons=b"\0\1"),
        "a link": messages.Link(body=b"body", signature=random(64)),
    }
    for name, message in examples.items():
        file.gives("decoded", name, message=type(message).__name__, bytes=as_hex(message))
    partial_fields = plain(partial) | {"signature": partial.signature}
    for name, (kind, fields) in {
        "a field missing": ("Partial", {"day": DAY}),
        "a field too many": ("Partial", partial_fields | {"more": 1}),
        "a negative day": ("Partial", partial_fields | {"day": -1}),
        "a day far off": ("Partial", partial_fields | {"day": 10**6 + 1}),
        "a day that is text": ("Partial", partial_fields | {"day": "20000"}),
        "a day that is a fraction": ("Partial", partial_fields | {"day": 0.5}),
        "a point a byte short": ("Partial", partial_fields | {"signature": partial.signature[:-1]}),
        "a point that is text": ("Partial", partial_fields | {"signature": "0" * 48}),
        "a group in capitals": ("ContactRecord", msgspec.structs.asdict(record) | {"group": "North"}),
        "a group with the end of a line": ("ContactRecord", msgspec.structs.asdict(record) | {"group": "north\n"}),
        "a group of 33 letters": ("ContactRecord", msgspec.structs.asdict(record) | {"group": "n" * 33}),
        "no submission": ("Submissions", {"submissions": []}),
        "five nullifiers": ("Show", msgspec.structs.asdict(record.proof) | {"nullifiers": [record.nullifier] * 5}),
    }.items():
        data = msgspec.msgpack.encode(fields)
        file.refuses("decoded", name, "malformed", message=kind, bytes=data.hex())
    good = as_hex(partial)
    for name, text in {
        "nothing": "",
        "cut": good[:-2],
        "a byte after the end": good + "00",
        "a list": "93010203",
    }.items():
        file.refuses("decoded", name, "malformed", message="Partial", bytes=text)
    for data, size in ((b"", 4), (b"abc", 16), (b"\0\0", 16)):
        file.gives("unpadded", f"{data!r} in {size}", padded=messages.pad(data, size).hex())
    for name, padded in {
        "no length": "000000",
        "a length beyond the end": "0000000d" + "00" * 12,
        "padding that is not zero": "00000003616263" + "00" * 8 + "01",
    }.items():
        file.refuses("unpadded", name, "malformed", padded=padded)
    return file
