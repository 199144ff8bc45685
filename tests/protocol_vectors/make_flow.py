"""Makes encounter.json, contact.json, declaration.json, messages.json and chains.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import chain, contact, declaration, encounter, hashing, messages, parameters, publication
from protocol.errors import SpotError
from tests.protocol_vectors.cast import Cast, Member, chosen
from tests.protocol_vectors.making import FOLDER, File, stream
from tests.protocol_vectors.plain import plain, read_scalar

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values

DAY = 20_000
NUMBER = 1  # of the issuer of users
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
        return contact.submit(self.cast.curve, random, member.own, member.issuer.key, NUMBER, ccm, day)

    def partial(self, submission: messages.Submission, day: int = DAY) -> messages.Partial:
        """The server's answer."""
        secret = contact.ServerSecret(read_scalar(self.cast.server["server_secret"]))
        nullifier = contact.nullifier_of(submission)
        signature = contact.sign_partially(self.cast.curve, secret, submission.ccm, day, nullifier)
        return messages.Partial(day=day, signature=signature)

    def record(self, member: Member, name: str, proxy: Member | None = None) -> messages.ContactRecord:
        """The finished record."""
        submission = self.submission(member, name)
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
        return {"server_key": self.server_key, "groups": {"north": self.cast.north.key.encoded.hex()}}


def _replaced(message: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(message, **fields)


def _hex(message: messages.Message) -> str:
    return messages.encode(message).hex()


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
            **member.given,
            **chosen(f"submission of {member.name}", "blind", "nonce"),
        )
        for member in (cast.ada, cast.ben)
    }
    submission = made["Ada"]["submission"]
    file.gives("checked submission", "Ada", submission=submission, **cast.users.given)
    again = contacts.submission(cast.ada, "1")
    file.gives("checked submission", "Ada again: the same nullifier", submission=_hex(again), **cast.users.given)
    good = messages.decode(messages.Submission, bytes.fromhex(submission))
    nobody = _replaced(good.show, nullifiers=(), commitments=())
    twice = _replaced(good.show, nullifiers=good.show.nullifiers * 2, commitments=good.show.commitments * 2)
    bad = {
        "another day": ("refused", _replaced(good, day=DAY + 1)),
        "another CCM": ("refused", _replaced(good, ccm=bytes(32))),
        "no nullifier": ("malformed", _replaced(good, show=nobody)),
        "two nullifiers": ("malformed", _replaced(good, show=twice)),
        "a proxy's signature": (
            "malformed",
            _replaced(good, show=contacts.record(cast.ada, "1").proof),
        ),
    }
    for name, (slug, message) in bad.items():
        file.refuses("checked submission", name, slug, submission=_hex(message), **cast.users.given)
    other = cast.later.given
    file.refuses("checked submission", "under another issuer", "refused", submission=submission, **other)
    _make_extension(file, contacts, made)
    return file


def _make_extension(file: File, contacts: Contacts, made: dict[str, Values]) -> None:
    cast, submission = contacts.cast, made["Ada"]["submission"]
    signing = {**cast.server, "ccm": encounter.ccm_of(contacts.secret("1")).hex()}
    partials = {
        name: file.gives("partial", name, **signing, day=DAY, nullifier=one["nullifier"]) for name, one in made.items()
    }
    before = file.gives("partial", "the day before", **signing, day=DAY - 1, nullifier=made["Ada"]["nullifier"])
    after = file.gives("partial", "the day after", **signing, day=DAY + 1, nullifier=made["Ada"]["nullifier"])
    checking = {"submission": submission, "server_key": partials["Ada"]["server_key"]}
    file.gives("checked partial", "Ada", partial=partials["Ada"]["partial"], **checking)
    file.gives("checked partial", "the day before", partial=before["partial"], **checking)
    wrong = messages.Partial(day=DAY - 1, signature=bytes.fromhex(partials["Ada"]["signature"]))
    for name, message in {
        "of another nullifier": partials["Ben"]["partial"],
        "of the day after": after["partial"],
        "with another day": _hex(wrong),
    }.items():
        file.refuses("checked partial", name, "refused", partial=message, **checking)
    given = {"group": "north", "submission": submission, **cast.proxy.given}
    random = chosen("extension", "blind", "nonce")
    record = file.gives("record", "Ada", partial=partials["Ada"]["partial"], **given, **random)
    earlier = file.gives("record", "the day before", partial=before["partial"], **given, **random)
    given = {"submission": submission, **contacts.keys}
    file.gives("checked record", "Ada", record=record["record"], **given)
    file.gives("checked record", "the day before", record=earlier["record"], **given)
    good = messages.decode(messages.ContactRecord, bytes.fromhex(record["record"]))
    foreign = contacts.record(cast.ben, "1")
    bad = {
        "another nullifier": foreign,
        "another CCM": _replaced(good, ccm=bytes(32)),
        "a day changed afterwards": _replaced(good, day=DAY - 1),
        "another signature of the server": _replaced(good, partial=foreign.partial),
        "another signature of the group": _replaced(good, proof=foreign.proof),
        "an unknown group": _replaced(good, group="south"),
    }
    for name, message in bad.items():
        file.refuses("checked record", name, "refused", record=_hex(message), **given)


def make_declaration(curve: Curve) -> File:
    """Report codes, reports, seals, receipts."""
    file = File("Report codes, reports, what is sealed, and the authority's checks. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    file.gives("code", "any", random=stream("code")(10).hex())
    code = declaration.normal_code(declaration.new_code(stream("code")))
    shown = "-".join(code[index : index + 4] for index in range(0, 16, 4))
    for typed in (shown, code.lower(), f"  {shown.replace('-', ' ')}\n", "0123-4567-8ABC-DEFG".replace("9", "A")):
        file.gives("typed code", typed, typed=typed)
    for typed in ("", shown[:-1], shown + "A", shown.replace(shown[0], "9"), "ÄBCD-EFGH-IJKL-MNOP"):
        file.refuses("typed code", typed or "nothing", "malformed", typed=typed)
    _make_reports(file, contacts, code)
    return file


def _make_reports(file: File, contacts: Contacts, code: str) -> None:
    cast, ph = contacts.cast, stream("parameters")(32).hex()
    given = {"code": code, "reply_key": stream("reply key")(32).hex(), "number": NUMBER, "parameters": ph}
    ada = [contacts.declared(contacts.record(cast.ada, name), name, role) for name, role in (("1", 0), ("2", 1))]
    other_proxy = contacts.declared(contacts.record(cast.ada, "3", cast.other_proxy), "3")
    ben = contacts.declared(contacts.record(cast.ben, "4"), "4")
    fields = messages.decode(messages.ContactRecord, bytes.fromhex(ada[0]["record"]))
    foreign = contacts.record(cast.ben, "1")

    def report(name: str, *listed: Values) -> Values:
        random = chosen(f"report {name}", "blind", "nonce")
        return file.gives("report", name, contacts=list(listed), **given, **cast.ada.given, **random)

    rules = {**cast.users.given, **contacts.keys, "parameters": ph, "removed": {}, "reported": []}
    rules |= {"first_day": DAY - 14, "last_day": DAY, "most": 3}

    def check(name: str, made: Values, **changed: Any) -> None:
        file.gives("checked report", name, report=made["report"], **(rules | changed))

    one, two, three = report("one contact", ada[0]), report("two contacts", *ada), report("three", *ada, other_proxy)
    check("one contact", one)
    check("two contacts", two)
    check("three, one signed by a removed proxy", three, removed={"north": [cast.other_proxy.opening]})
    check("one reported before", two, reported=[fields.nullifier.hex()])
    check("of days long ago", two, first_day=DAY + 1, last_day=DAY + 14)
    check("of a group that is gone", one, groups={})
    listed = {
        "another's secret": {**ada[0], "secret": ada[1]["secret"]},
        "a role of 2": {**ada[0], "role": 2},
        "another's nullifier": {**ada[0], "record": _hex(_replaced(fields, nullifier=foreign.nullifier))},
        "another's signature of the server": {**ada[0], "record": _hex(_replaced(fields, partial=foreign.partial))},
        "another's signature of the group": {**ada[0], "record": _hex(_replaced(fields, proof=foreign.proof))},
        "another day": {**ada[0], "record": _hex(_replaced(fields, day=DAY - 1))},
        "a signature that is no point": {**ada[0], "record": _hex(_replaced(fields, partial=bytes(48)))},
    }
    for name, bad in listed.items():
        check(f"{name}, beside a good one", report(name, bad, ada[1]))
    check("the same contact twice", report("twice", ada[0], ada[0]))
    mixed = report("of two users", ada[0], ben)
    file.refuses("checked report", "of two users", "refused", report=mixed["report"], **rules)
    file.refuses(
        "checked report",
        "made by other parameters",
        "refused",
        report=two["report"],
        **(rules | {"parameters": bytes(32).hex()}),
    )
    file.refuses("checked report", "too many", "refused", report=three["report"], **(rules | {"most": 2}))
    good = messages.decode(messages.Report, bytes.fromhex(two["report"]))
    body = messages.decode(messages.ReportBody, good.body)
    shorter = messages.encode(_replaced(body, contacts=body.contacts[:1]))
    backwards = messages.encode(_replaced(body, contacts=body.contacts[::-1]))
    empty = messages.encode(_replaced(body, contacts=()))
    for name, data in {"cut": shorter, "reordered": backwards, "emptied": empty}.items():
        file.refuses("checked report", name, "refused", report=_hex(_replaced(good, body=data)), **rules)
    _make_sealing(file, one["report"], ph)


def _make_sealing(file: File, report: str, ph: str) -> None:
    seed = stream("seal key")(96).hex()
    sealed = _sealed(file, seed, report, ph)
    opened = file.gives("opened report", "one contact", seed=seed, sealed=_hex(sealed))
    if opened["report"] != report:
        raise ValueError("the sealed report is another")
    altered = sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1])
    for name, message in {
        "altered": _replaced(sealed, sealed=altered),
        "for other parameters": _replaced(sealed, parameters=bytes(32)),
        "too short": _replaced(sealed, sealed=bytes(1000)),
    }.items():
        file.refuses("opened report", name, "not-mine", seed=seed, sealed=_hex(message))
    other = stream("other seal key")(96).hex()
    file.refuses("opened report", "for another key", "not-mine", seed=other, sealed=_hex(sealed))
    key = stream("reply key")(32).hex()
    receipts = {
        "accepted": messages.Receipt(accepted=True, reference="K7QM-2D", days=(DAY - 1, DAY)),
        "refused": messages.Receipt(
            accepted=False, problem="refused", text="1 of 2 contacts is refused", reasons=bytes([0, 9])
        ),
    }
    for name, receipt in receipts.items():
        answer = file.gives("receipt", name, receipt=_hex(receipt), reply_key=key, size=opened["receipt_size"])
    bad = bytes.fromhex(answer["sealed"])
    bad = bad[:-1] + bytes([bad[-1] ^ 1])
    file.refuses("opened receipt", "altered", "malformed", sealed=bad.hex(), reply_key=key)
    file.refuses("opened receipt", "of another key", "malformed", sealed=answer["sealed"], reply_key=seed[:64])


def _sealed(file: File, seed: str, report: str, ph: str) -> messages.SealedReport:
    """The sealed report of the file as it is, where it still opens to this report: sealing draws its own randomness."""
    path = FOLDER / "declaration.json"
    secret = declaration.read_seal_secret(bytes.fromhex(seed))
    for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"] if path.exists() else ():
        if vector["kind"] == "opened report" and "gives" in vector:
            try:
                sealed = messages.decode(messages.SealedReport, bytes.fromhex(vector["given"]["sealed"]))
                if sealed.parameters.hex() == ph and _hex(declaration.unseal(secret, sealed)) == report:
                    return sealed
            except SpotError:
                break
    made = messages.decode(messages.Report, bytes.fromhex(report))
    return declaration.seal(made, secret.public, bytes.fromhex(ph))


# --- messages ---


def make_messages(curve: Curve) -> File:
    """One of each message, and malformed ones."""
    file = File("Messages, their fields and their bytes; padding. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    cast, random = contacts.cast, stream("messages")
    submission, record = contacts.submission(cast.ada, "1"), contacts.record(cast.ada, "1")
    partial = contacts.partial(submission)
    head = messages.Head(number=3, hash=random(32))
    join = messages.JoinRequest(
        nonce=random(32), public=record.nullifier, challenge=bytes(32), answer=(1).to_bytes(32, "big")
    )
    examples: dict[str, messages.Message] = {
        "a nonce": messages.Nonce(nonce=random(32)),
        "a user's join": messages.UserJoin(invitation="ABCD-EFGH-IJKL-2345", issuer=NUMBER, join=join),
        "two submissions": messages.Submissions(submissions=(submission, contacts.submission(cast.ben, "1"))),
        "outcomes: signed, refused, pending": messages.Outcomes(
            outcomes=(messages.Outcome(partial=partial), messages.Outcome(refusal="too old"), messages.Outcome())
        ),
        "an answer: pending": messages.Answer(),
        "an answer": messages.Answer(record=record),
        "a contact record": record,
        "heads": messages.Heads(parameters=head, publications=chain.EMPTY),
        "a receipt": messages.Receipt(accepted=False, problem="code-refused", text="used", reasons=b"\0\1"),
        "a link": messages.Link(body=b"body", signature=random(64)),
    }
    for name, message in examples.items():
        file.gives("decoded", name, message=type(message).__name__, bytes=_hex(message))
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
    good = _hex(partial)
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


# --- chains ---


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(stream(f"{name} key")(32))


def _public(name: str) -> bytes:
    return _key(name).public_key().public_bytes_raw()


def _parameters(contacts: Contacts, number: int, previous: bytes, chain_key: str) -> messages.Parameters:
    cast = contacts.cast
    seal = declaration.read_seal_secret(stream("seal key")(96))
    return messages.Parameters(
        number=number,
        previous=previous,
        issued_at=DAY * 86400 + number,
        valid_until=(DAY + 14) * 86400,
        authority="Example health authority",
        chain_key=_public(chain_key),
        publication_key=_public("publication"),
        seal_key=seal.public,
        server_key=bytes.fromhex(contacts.server_key),
        issuers=(
            messages.UserIssuer(number=NUMBER, key=cast.users.public, from_day=DAY - 90, until_day=DAY + 14),
            messages.UserIssuer(number=NUMBER + 1, key=cast.later.public, from_day=DAY, until_day=DAY + 104),
        ),
        groups=(
            messages.ProxyGroup(
                name="north", key=cast.north.public, proxies=("https://n1.example", "https://n2.example")
            ),
            messages.ProxyGroup(name="south", key=cast.south.public, proxies=("https://s1.example",)),
        ),
        limits=messages.Limits(
            epoch=900,
            minimum=60,
            first_seen_days=3,
            ask_days=4,
            retention_days=14,
            clock_tolerance=180,
            contacts=1000,
            floor=64,
            delay=3600,
            retry_first=3600,
            retry_last=43200,
        ),
        risk=messages.Risk(
            bands=(
                messages.Band(below=55.0, weight=1.0),
                messages.Band(below=63.0, weight=0.5),
                messages.Band(below=73.0, weight=0.0),
            ),
            infectiousness=(0.5, 1.0),
            warn_at=15.0,
            gap=120.0,
        ),
        onset=(
            messages.OnsetLevel(first=-2, last=3, level=2),
            messages.OnsetLevel(first=4, last=10, level=1),
        ),
    )


def make_chains(curve: Curve) -> File:
    """Parameters and publications."""
    file = File("The chains of parameters and publications. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    # The second link names another key, with which the third is signed.
    bodies, links, head = [], [], chain.EMPTY
    for number, (signer, named) in enumerate(
        (("chain", "chain"), ("chain", "next chain"), ("next chain", "next chain"))
    ):
        body = messages.encode(_parameters(contacts, number, head.hash, named))
        made = file.gives("link", f"parameters {number}", **_signing(signer, hashing.PARAMETERS, body))
        head = messages.Head(number=number, hash=bytes.fromhex(made["hash"]))
        bodies.append(body)
        links.append(made["link"])
    file.gives("followed parameters", "three links", links=links)
    file.gives("followed parameters", "the genesis", links=links[:1])
    file.gives("keys", "of the last link", body=bodies[-1].hex())
    for name, bad in _bad_chains(contacts, links).items():
        file.refuses("followed parameters", name, "key-changed", links=bad)
    for name, changed in _senseless(contacts).items():
        link = _signed("chain", hashing.PARAMETERS, messages.encode(changed))
        file.refuses("followed parameters", name, "malformed", links=[link])
    last = messages.decode(messages.Parameters, bodies[-1])
    foreign = _replaced(last.groups[0], key=last.issuers[0].key)
    swapped = messages.encode(_replaced(last, groups=(foreign,)))
    file.refuses("keys", "a group with the key of an issuer of users", "refused", body=swapped.hex())
    _make_publications(file)
    return file


def _signing(key: str, tag: bytes, body: bytes) -> Values:
    return {"key_seed": stream(f"{key} key")(32).hex(), "tag": tag.decode(), "body": body.hex()}


def _signed(key: str, tag: bytes, body: bytes) -> str:
    return _hex(chain.sign(_key(key), tag, body))


def _bad_chains(contacts: Contacts, links: list[str]) -> dict[str, list[str]]:
    decoded = [messages.decode(messages.Link, bytes.fromhex(link)) for link in links]
    heads = [chain.hash_of(hashing.PARAMETERS, link) for link in decoded]

    def second(**fields: Any) -> str:
        content = _replaced(_parameters(contacts, 1, heads[0], "chain"), **fields)
        return _hex(parameters.sign(_key("chain"), content))

    old_key = _hex(parameters.sign(_key("chain"), _parameters(contacts, 2, heads[1], "chain")))
    body = decoded[1].body
    altered = body.replace(b"Example health", b"Another health")
    return {
        "a link left out": [links[0], links[2]],
        "a link twice": [links[0], links[0]],
        "not from its start": links[1:],
        "another number": [links[0], second(number=2)],
        "another predecessor": [links[0], second(previous=bytes(32))],
        "an altered link": [links[0], _hex(_replaced(decoded[1], body=altered))],
        "signed for the other chain": [links[0], _signed("chain", hashing.PUBLICATION, body)],
        "signed with a key that was replaced": [*links[:2], old_key],
    }


def _senseless(contacts: Contacts) -> dict[str, messages.Parameters]:
    good = _parameters(contacts, 0, bytes(32), "chain")
    bands = good.risk.bands
    return {
        "two groups of one name": _replaced(good, groups=good.groups[:1] * 2),
        "two issuers of one number": _replaced(good, issuers=good.issuers[:1] * 2),
        "bands out of order": _replaced(good, risk=_replaced(good.risk, bands=bands[::-1])),
        "a level without weight": _replaced(good, risk=_replaced(good.risk, infectiousness=(1.0,))),
    }


def _make_publications(file: File) -> None:
    random = stream("tokens")
    tokens = [{"token": random(16).hex(), "day": DAY - index % 2, "level": 1 + index % 2} for index in range(3)]
    key = _public("publication").hex()
    head, links = chain.EMPTY, []
    for number, listed in enumerate((tokens[:2], [], tokens[2:])):
        given = {"head": plain(head), "issued_at": (DAY + 1) * 86400 + number, "floor": 4, "tokens": listed}
        built = file.gives("publication", str(number), seed=f"SPOT test vectors: filling {number}", **given)
        body = bytes.fromhex(built["body"])
        made = file.gives("link", f"publication {number}", **_signing("publication", hashing.PUBLICATION, body))
        head = messages.Head(number=number, hash=bytes.fromhex(made["hash"]))
        links.append(made["link"])
    own = [tokens[0]["token"], tokens[2]["token"], bytes(16).hex()]
    file.gives("followed publications", "three links", publication_key=key, links=links, own=own)
    first = messages.decode(messages.Link, bytes.fromhex(links[0]))
    cut = messages.decode(messages.Publication, first.body)
    cut = _replaced(cut, days=(_replaced(cut.days[0], tokens=cut.days[0].tokens[:-1]),))
    bad = {
        "a link left out": ("key-changed", [links[0], links[2]]),
        "reordered": ("key-changed", [links[1], links[0]]),
        "signed with another key": ("key-changed", [_signed("chain", hashing.PUBLICATION, first.body)]),
        "signed for the other chain": ("key-changed", [_signed("publication", hashing.PARAMETERS, first.body)]),
        "a token cut": ("malformed", [_hex(publication.sign(_key("publication"), cut))]),
    }
    for name, (slug, listed) in bad.items():
        file.refuses("followed publications", name, slug, publication_key=key, links=listed, own=[])
