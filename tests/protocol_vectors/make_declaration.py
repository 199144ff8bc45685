"""Makes declaration.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from protocol import declaration, messages
from protocol.errors import SpotError
from tests.protocol_vectors.cast import Cast, as_hex, chosen, replaced
from tests.protocol_vectors.contacts import DAY, NUMBER, SERVER, Contacts
from tests.protocol_vectors.making import FOLDER, File, stream

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values


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
    check("of a server key that is gone", one, servers={})
    check("of a server key replaced the day before", one, ends={str(SERVER): DAY - 1})
    # A renewed member has the same secret key: one proof owns the contacts of both periods.
    later = contacts.declared(contacts.record(cast.renewed, "5"), "5")
    random = chosen("report of two periods", "blind", "nonce")
    renewed = given | {"number": NUMBER + 1} | cast.renewed.given | random
    both = file.gives("report", "contacts of two periods, after a renewal", contacts=[ada[0], later], **renewed)
    check("contacts of two periods, after a renewal", both, **cast.later.given)
    listed = {
        "another's secret": {**ada[0], "secret": ada[1]["secret"]},
        "a role of 2": {**ada[0], "role": 2},
        "another's nullifier": {**ada[0], "record": as_hex(replaced(fields, nullifier=foreign.nullifier))},
        "another's signature of the server": {**ada[0], "record": as_hex(replaced(fields, partial=foreign.partial))},
        "another's signature of the group": {**ada[0], "record": as_hex(replaced(fields, proof=foreign.proof))},
        "another day": {**ada[0], "record": as_hex(replaced(fields, day=DAY - 1))},
        "a signed nullifier that is no point": {**ada[0], "record": as_hex(contacts.bad_record(cast.ada, "1"))},
        "a signature that is no point": {**ada[0], "record": as_hex(replaced(fields, partial=bytes(48)))},
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
    shorter = messages.encode(replaced(body, contacts=body.contacts[:1]))
    backwards = messages.encode(replaced(body, contacts=body.contacts[::-1]))
    empty = messages.encode(replaced(body, contacts=()))
    for name, data in {"cut": shorter, "reordered": backwards, "emptied": empty}.items():
        file.refuses("checked report", name, "refused", report=as_hex(replaced(good, body=data)), **rules)
    _make_sealing(file, one["report"], ph)


def _make_sealing(file: File, report: str, ph: str) -> None:
    seed = stream("seal key")(96).hex()
    sealed = _sealed(file, seed, report, ph)
    opened = file.gives("opened report", "one contact", seed=seed, sealed=as_hex(sealed))
    if opened["report"] != report:
        raise ValueError("the sealed report is another")
    altered = sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1])
    for name, message in {
        "altered": replaced(sealed, sealed=altered),
        "for other parameters": replaced(sealed, parameters=bytes(32)),
        "too short": replaced(sealed, sealed=bytes(1000)),
    }.items():
        file.refuses("opened report", name, "not-mine", seed=seed, sealed=as_hex(message))
    other = stream("other seal key")(96).hex()
    file.refuses("opened report", "for another key", "not-mine", seed=other, sealed=as_hex(sealed))
    key = stream("reply key")(32).hex()
    receipts = {
        "accepted": messages.Receipt(accepted=True, reference="K7QM-2D", days=(DAY - 1, DAY)),
        "refused": messages.Receipt(
            accepted=False, problem="refused", text="1 of 2 contacts is refused", reasons=bytes([0, 9])
        ),
    }
    for name, receipt in receipts.items():
        given = {"reply_key": key, "nonce": stream(f"nonce, {name}")(12).hex(), "size": opened["receipt_size"]}
        answer = file.gives("receipt", name, receipt=as_hex(receipt), **given)
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
                if sealed.parameters.hex() == ph and as_hex(declaration.unseal(secret, sealed)) == report:
                    return sealed
            except SpotError:
                break
    made = messages.decode(messages.Report, bytes.fromhex(report))
    return declaration.seal(made, secret.public, bytes.fromhex(ph))
