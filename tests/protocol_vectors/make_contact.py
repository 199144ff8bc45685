"""Makes encounter.json and contact.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import encounter, messages
from tests.protocol_vectors.cast import Cast, as_hex, chosen, replaced
from tests.protocol_vectors.contacts import DAY, NUMBER, SERVER, TICKET, Contacts
from tests.protocol_vectors.making import File, stream

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values


METADATA = {"strong": "01140000", "weak": "01ce0000", "usual": "01f80000"}
# RFC 7748's coordinates of low order: any secret with one of them shares zeros.
LOW_ORDER = {
    "zero": bytes(32),
    "one": (1).to_bytes(32, "little"),
    "p - 1": (2**255 - 20).to_bytes(32, "little"),
    "p": (2**255 - 19).to_bytes(32, "little"),
    "p + 1": (2**255 - 18).to_bytes(32, "little"),
    "of order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
}


def make_encounter(curve: Curve) -> File:
    """From two seeds to CCM and tokens."""
    file = File("Encounters: two X25519 seeds and what rides along with each EBID (4 bytes). Hexadecimal.", curve)
    random = stream("encounters")
    seeds = [random(32).hex() for _ in range(2)]
    for name, (one, two) in {"usual": ("usual", "usual"), "altered TX power": ("strong", "usual")}.items():
        sides = [{"seed": seed, "metadata": METADATA[power]} for seed, power in zip(seeds, (one, two), strict=True)]
        met = file.gives("encounter", name, a=sides[0], b=sides[1])
    file.gives("encounter", "the other way round", a=sides[1], b=sides[0])
    own, peer = met["blocks"]
    file.gives("meeting", "of the first", seed=seeds[0], own_block=own, peer_block=peer)
    for name, point in LOW_ORDER.items():
        block = point.hex() + METADATA["usual"]
        file.refuses("meeting", f"low order: {name}", "refused", seed=seeds[0], own_block=own, peer_block=block)
    high = peer[:62] + f"{int(peer[62:64], 16) | 0x80:02x}" + peer[64:]
    malformed = {
        "bit 255 set": (own, high),
        "a byte short": (own, peer[:-2]),
        "a byte long": (own, peer + "00"),
        "another's block as the own": (peer, own),
    }
    for name, (left, right) in malformed.items():
        file.refuses("meeting", name, "malformed", seed=seeds[0], own_block=left, peer_block=right)
    file.refuses("meeting", "the own EBID coming back", "refused", seed=seeds[0], own_block=own, peer_block=own)
    for at in (0, 899, 900, 86_399, 86_400, 1_728_000_000):
        file.gives("times", str(at), at=at, epoch_length=900)
    return file


IN_TICKET = {"sent_day": TICKET.day, "ticket": TICKET.number}


def make_contact(curve: Curve) -> File:
    """Submission, partial signature, extension."""
    file = File("Submission, partial signature, extension. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    cast = contacts.cast
    ccm = encounter.ccm_of(contacts.secret("1")).hex()
    made = {
        member.name: file.gives(
            "submission",
            member.name,
            number=NUMBER,
            ccm=ccm,
            day=DAY,
            **IN_TICKET,
            **member.given,
            **chosen(f"submission of {member.name}", "blind", "nonce"),
        )
        for member in (cast.ada, cast.ben)
    }
    submission = made["Ada"]["submission"]
    file.gives("checked submission", "Ada", submission=submission, **cast.users.given)
    again = contacts.submission(cast.ada, "1")
    file.gives("checked submission", "Ada again: the same nullifier", submission=as_hex(again), **cast.users.given)
    _make_renewed(file, cast, made["Ada"], ccm)
    good = messages.decode(messages.Submission, bytes.fromhex(submission))
    alone = replaced(good.show, nullifiers=good.show.nullifiers[:1], commitments=good.show.commitments[:1])
    twice = replaced(good.show, nullifiers=good.show.nullifiers * 2, commitments=good.show.commitments * 2)
    bad = {
        "another day": ("refused", replaced(good, day=DAY + 1)),
        "another CCM": ("refused", replaced(good, ccm=bytes(32))),
        "another ticket": ("refused", replaced(good, ticket=TICKET.number + 1)),
        "another day of sending": ("refused", replaced(good, sent_day=DAY)),
        "one nullifier": ("malformed", replaced(good, show=alone)),
        "four nullifiers": ("malformed", replaced(good, show=twice)),
        "a proxy's signature": (
            "malformed",
            replaced(good, show=contacts.record(cast.ada, "1").proof),
        ),
    }
    for name, (slug, message) in bad.items():
        file.refuses("checked submission", name, slug, submission=as_hex(message), **cast.users.given)
    other = cast.later.given
    file.refuses("checked submission", "under another issuer", "refused", submission=submission, **other)
    _make_extension(file, contacts, made)
    return file


def _make_renewed(file: File, cast: Cast, before: Values, ccm: str) -> None:
    """Ada after her renewal: a credential of the next issuer on the same secret key."""
    random = chosen("submission of Ada, renewed", "blind", "nonce")
    given = {"number": NUMBER + 1, "ccm": ccm, "day": DAY, **IN_TICKET, **cast.renewed.given, **random}
    renewed = file.gives("submission", "Ada, renewed: the same nullifier", **given)
    if any(renewed[name] != before[name] for name in ("nullifier", "ticket_nullifier")):
        raise ValueError("a renewed member has other nullifiers")
    file.gives("checked submission", "Ada, renewed", submission=renewed["submission"], **cast.later.given)


def chosen_key(file: File, name: str) -> str:
    """Ys of a server of this name."""
    made = file.gives("partial", name, server=SERVER + 1, **chosen(name, "server_secret"), **_NOTHING)
    return str(made["server_key"])


_NOTHING: Values = {"ccm": bytes(32).hex(), "day": DAY, "nullifier": bytes(48).hex()}


def _make_extension(file: File, contacts: Contacts, made: dict[str, Values]) -> None:
    cast, submission = contacts.cast, made["Ada"]["submission"]
    signing = {"server": SERVER, **cast.server, "ccm": encounter.ccm_of(contacts.secret("1")).hex()}
    partials = {
        name: file.gives("partial", name, **signing, day=DAY, nullifier=one["nullifier"]) for name, one in made.items()
    }
    before = file.gives("partial", "the day before", **signing, day=DAY - 1, nullifier=made["Ada"]["nullifier"])
    after = file.gives("partial", "the day after", **signing, day=DAY + 1, nullifier=made["Ada"]["nullifier"])
    checking = {"submission": submission, **contacts.keys}
    file.gives("checked partial", "Ada", partial=partials["Ada"]["partial"], **checking)
    for name, message in {
        "of another nullifier": partials["Ben"]["partial"],
        "of the day before": before["partial"],
        "of the day after": after["partial"],
    }.items():
        file.refuses("checked partial", name, "refused", partial=message, **checking)
    given = {"group": "north", "submission": submission, **cast.proxy.given}
    random = chosen("extension", "blind", "nonce")
    record = file.gives("record", "Ada", partial=partials["Ada"]["partial"], **given, **random)
    given = {"submission": submission, **contacts.keys}
    file.gives("checked record", "Ada", record=record["record"], **given)
    good = messages.decode(messages.ContactRecord, bytes.fromhex(record["record"]))
    foreign = contacts.record(cast.ben, "1")
    bad = {
        "another nullifier": foreign,
        "another CCM": replaced(good, ccm=bytes(32)),
        "a day changed afterwards": replaced(good, day=DAY - 1),
        "of the day before, signed": contacts.record(cast.ada, "1", day=DAY - 1),
        "another signature of the server": replaced(good, partial=foreign.partial),
        "another signature of the group": replaced(good, proof=foreign.proof),
    }
    for name, message in bad.items():
        file.refuses("checked record", name, "refused", record=as_hex(message), **given)
    later = {str(SERVER + 1): chosen_key(file, "later server"), **contacts.keys["servers"]}
    both = given | {"servers": later}
    file.gives("checked record", "after a new server key", record=record["record"], **both)
    file.refuses("checked record", "another server key", "refused", record=as_hex(replaced(good, server=2)), **both)
    for name, message in {
        "an unknown group": replaced(good, group="south"),
        "an unknown server key": replaced(good, server=SERVER + 1),
    }.items():
        file.refuses("checked record", name, "not-mine", record=as_hex(message), **given)
    for key in (str(SERVER), "north"):
        last, over = given | {"ends": {key: DAY}}, given | {"ends": {key: DAY - 1}}
        file.gives("checked record", f"on the last day of {key}", record=record["record"], **last)
        file.refuses("checked record", f"after the last day of {key}", "refused", record=record["record"], **over)
