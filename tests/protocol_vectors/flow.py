"""Vectors of encounters, contacts, declarations and chains; made and compared as those of `arithmetic`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol import chain, contact, credential, declaration, encounter, messages, parameters, publication
from protocol.errors import Malformed
from tests.protocol_vectors.arithmetic import joined, make_show, to_scalar
from tests.protocol_vectors.plain import Values, plain, read_credential, read_issuer, read_scalar
from tests.protocol_vectors.source import Chosen, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.credential import IssuerKey
    from protocol.curve import G1, G2, Curve

HPKE_SUITE = b"HPKE" + bytes.fromhex("647a 0001 0003")  # X-Wing, HKDF-SHA256, ChaCha20-Poly1305
XWING_LABEL = rb"\.//^" + b"\\"

# --- encounter ---


def make_encounter(_: Curve, given: Values) -> Values:
    """All that two devices compute of each other; each side: its seed, and the 4 bytes behind its EBID."""
    seeds = bytes.fromhex(given["a"]["seed"]), bytes.fromhex(given["b"]["seed"])
    secrets = [X25519PrivateKey.from_private_bytes(seed) for seed in seeds]
    ebids = [secret.public_key().public_bytes_raw() for secret in secrets]
    blocks = [ebid + bytes.fromhex(given[side]["metadata"]) for ebid, side in zip(ebids, "ab", strict=True)]
    shared = secrets[0].exchange(X25519PublicKey.from_public_bytes(ebids[1]))
    info = min(blocks) + max(blocks)
    extracted = hmac.digest(b"SPOT-V1-ENCOUNTER", shared, "sha256")
    secret = hmac.digest(extracted, info + b"\1", "sha256")
    ccm = hashlib.sha256(joined([b"SPOT-V1-CCM", secret])).digest()
    tokens = [hashlib.sha256(joined([b"SPOT-V1-EXPOSURE", secret, bytes([role])])).digest()[:16] for role in (0, 1)]
    roles = [0, 1] if ebids[0] < ebids[1] else [1, 0]
    for own, peer in ((0, 1), (1, 0)):
        assert encounter.EpochKey(seeds[own]).meet(blocks[own], blocks[peer]) == secret
        assert encounter.role_of(blocks[own], blocks[peer]) == roles[own]
    assert encounter.ccm_of(secret) == ccm
    assert [encounter.token_of(secret, role) for role in (0, 1)] == tokens
    return {
        "ebids": plain(ebids),
        "blocks": plain(blocks),
        "shared": shared.hex(),
        "info": info.hex(),
        "secret": secret.hex(),
        "ccm": ccm.hex(),
        "roles": roles,
        "tokens": plain(tokens),
    }


def make_meeting(_: Curve, given: Values) -> Values:
    """What one device computes of the block it heard."""
    own, peer = bytes.fromhex(given["own_block"]), bytes.fromhex(given["peer_block"])
    return {"secret": encounter.EpochKey(bytes.fromhex(given["seed"])).meet(own, peer).hex()}


def make_times(_: Curve, given: Values) -> Values:
    """Epoch and day of a moment."""
    at, length = given["at"], given["epoch_length"]
    assert encounter.epoch_of(at, length) == at // length
    assert encounter.day_of(at) == at // 86400
    return {"epoch": at // length, "day": at // 86400}


# --- contact ---


def _shown_message(*parts: bytes) -> str:
    return joined(parts).hex()


def make_submission(curve: Curve, given: Values) -> Values:
    """A submission."""
    ccm, day = bytes.fromhex(given["ccm"]), given["day"]
    ticket = contact.Ticket(given["sent_day"], given["ticket"])
    of_ticket = [ticket.day.to_bytes(8, "big"), ticket.number.to_bytes(8, "big")]
    points = (
        curve.hash_to_g1(b"SPOT-V1-NULLIFIER", joined([ccm])),
        curve.hash_to_g1(b"SPOT-V1-QUOTA", joined(of_ticket)),
    )
    bases = [point.encode().hex() for point in points]
    message = _shown_message(ccm, day.to_bytes(8, "big"), *of_ticket)
    shown = make_show(curve, given | {"purpose": "SUBMISSION", "bases": bases, "message": message})
    random = Chosen(read_scalar(given["blind"]), read_scalar(given["nonce"]))
    own, issuer = read_credential(curve, given), read_issuer(curve, given)
    made = contact.submit(curve, random, own, issuer, given["number"], ccm, day, ticket)
    assert plain(made.show) == shown["fields"]
    return {
        "bases": bases,
        "message": message,
        "show": shown,
        "nullifier": contact.nullifier_of(made).hex(),
        "ticket_nullifier": contact.nullifiers_of(made)[1].hex(),
        "submission": messages.encode(made).hex(),
    }


def make_checked_submission(curve: Curve, given: Values) -> Values:
    """A submission as proxy and server accept it."""
    made = messages.decode(messages.Submission, bytes.fromhex(given["submission"]))
    nullifier = contact.nullifier_of(made)
    issuer = read_issuer(curve, given)
    statement = contact.submission_statement(curve, issuer, made.ccm, made.day, contact.ticket_of(made))
    credential.verify(curve, Stream(b"weights"), statement, made.show)
    return {"nullifier": nullifier.hex()}


def make_partial(curve: Curve, given: Values) -> Values:
    """The server's partial signature."""
    secret = read_scalar(given["server_secret"])
    ccm, day, nullifier = bytes.fromhex(given["ccm"]), given["day"], bytes.fromhex(given["nullifier"])
    point = curve.hash_to_g1(b"SPOT-V1-PARTIAL", joined([ccm, day.to_bytes(8, "big"), nullifier]))
    signature = contact.sign_partially(curve, contact.ServerSecret(secret), ccm, day, nullifier)
    assert signature == (secret * point).encode()
    _, key = contact.new_server_key(curve, Chosen(secret))
    message = messages.encode(messages.Partial(server=given["server"], signature=signature))
    return {
        "server_key": key.hex(),
        "point": point.encode().hex(),
        "signature": signature.hex(),
        "partial": message.hex(),
    }


def make_checked_partial(curve: Curve, given: Values) -> Values:
    """A partial signature as the proxy accepts it."""
    submission = messages.decode(messages.Submission, bytes.fromhex(given["submission"]))
    partial = messages.decode(messages.Partial, bytes.fromhex(given["partial"]))
    contact.check_partial(curve, Stream(b"weights"), _signer_keys(curve, given), submission, partial)
    return {"valid": True}


def make_record(curve: Curve, given: Values) -> Values:
    """The proxy's contact record, and its padded answer."""
    submission = messages.decode(messages.Submission, bytes.fromhex(given["submission"]))
    partial = messages.decode(messages.Partial, bytes.fromhex(given["partial"]))
    nullifier = submission.show.nullifiers[0]
    day = submission.day.to_bytes(8, "big")
    message = _shown_message(given["group"].encode(), submission.ccm, day, nullifier, partial.signature)
    shown = make_show(curve, given | {"purpose": "EXTENSION", "bases": [], "message": message})
    random = Chosen(read_scalar(given["blind"]), read_scalar(given["nonce"]))
    own, key = read_credential(curve, given), read_issuer(curve, given)
    record = contact.extend(random, own, given["group"], key, submission, partial)
    assert plain(record.proof) == shown["fields"]
    answer = messages.encode(messages.Answer(record=record))
    return {
        "message": message,
        "proof": shown,
        "fields": plain(record),
        "record": messages.encode(record).hex(),
        "answer": messages.pad(answer, messages.ANSWER_SIZE).hex(),
    }


def _signer_keys(curve: Curve, given: Values) -> contact.SignerKeys:
    groups: dict[str, IssuerKey] = {
        name: read_issuer(curve, {"holder": "PROXY", "issuer": key}) for name, key in given["groups"].items()
    }
    servers = {int(number): curve.decode_g2(bytes.fromhex(key), "Ys") for number, key in given["servers"].items()}
    ends: dict[int | str, int] = {name if name in groups else int(name): day for name, day in given["ends"].items()}
    return contact.SignerKeys(servers, groups, ends)


def make_checked_record(curve: Curve, given: Values) -> Values:
    """A contact record as the agent accepts it."""
    submission = messages.decode(messages.Submission, bytes.fromhex(given["submission"]))
    record = messages.decode(messages.ContactRecord, bytes.fromhex(given["record"]))
    contact.check_record(curve, Stream(b"weights"), _signer_keys(curve, given), submission, record)
    return {"valid": True}


# --- declaration ---


def make_code(_: Curve, given: Values) -> Values:
    """A new report code."""
    text = base64.b32encode(bytes.fromhex(given["random"])).decode()
    assert declaration.new_code(lambda _: bytes.fromhex(given["random"])).replace("-", "") == text
    return {"code": text, "shown": declaration.new_code(lambda _: bytes.fromhex(given["random"]))}


def make_typed_code(_: Curve, given: Values) -> Values:
    """A report code as somebody typed it."""
    return {"code": declaration.normal_code(given["typed"])}


def _sum(curve: Curve, points: list[G1], weights: list[int]) -> G1:
    total = 0 * curve.g1
    for point, weight in zip(points, weights, strict=True):
        total += weight * point
    return total


def _combined_nullifier(curve: Curve, encoded: list[bytes], weights: list[int]) -> str | None:
    """N*; None where a nullifier is no point."""
    try:
        nullifiers = [curve.decode_g1(one, "N") for one in encoded]
    except Malformed:
        return None
    return _sum(curve, nullifiers, weights).encode().hex()


def make_report(curve: Curve, given: Values) -> Values:
    """A report with its proof of ownership."""
    own, issuer, hash_of = read_credential(curve, given), read_issuer(curve, given), bytes.fromhex(given["parameters"])
    contacts = tuple(
        messages.DeclaredContact(
            record=messages.decode(messages.ContactRecord, bytes.fromhex(one["record"])),
            secret=bytes.fromhex(one["secret"]),
            role=one["role"],
        )
        for one in given["contacts"]
    )
    reply_key = bytes.fromhex(given["reply_key"])
    body = messages.ReportBody(code=given["code"], reply_key=reply_key, issuer=given["number"], contacts=contacts)
    data = messages.encode(body)
    digest = hashlib.sha256(joined([b"SPOT-V1-REPORT", hash_of, data])).digest()
    blind, nonce = read_scalar(given["blind"]), read_scalar(given["nonce"])
    a = blind * own.s1
    first = [a.encode(), (blind * own.s2).encode(), (own.secret * a).encode()]
    weights = [
        to_scalar(b"SPOT-V1-OWN-WEIGHT", joined([issuer.encoded, *first, digest, index.to_bytes(8, "big")])) % 2**128
        for index in range(len(contacts))
    ]
    bases = [curve.hash_to_g1(b"SPOT-V1-NULLIFIER", joined([one.record.ccm])) for one in contacts]
    base = _sum(curve, bases, weights).encode().hex()
    shown = make_show(curve, given | {"purpose": "OWNERSHIP", "bases": [base], "message": digest.hex()})
    report = declaration.make_report(curve, Chosen(blind, nonce), own, issuer, body, hash_of)
    assert report.body == data
    assert plain(report.ownership) == shown["fields"]
    combined = _combined_nullifier(curve, [one.record.nullifier for one in contacts], weights)
    return {
        "body": data.hex(),
        "digest": digest.hex(),
        "weights": [weight.to_bytes(16, "big").hex() for weight in weights],
        "base": base,
        "combined_nullifier": combined,
        "owned": shown["fields"]["nullifiers"] == [combined],
        "ownership": shown,
        "report": messages.encode(report).hex(),
    }


def make_checked_report(curve: Curve, given: Values) -> Values:
    """The authority's reasons, one a contact; then, where all are fine, its check of ownership."""
    random, keys = Stream(b"weights"), _signer_keys(curve, given)
    removed: dict[str, Sequence[G2]] = {
        name: [curve.decode_g2(bytes.fromhex(opening), "T~") for opening in openings]
        for name, openings in given["removed"].items()
    }
    rules = declaration.Rules(keys, removed, given["first_day"], given["last_day"], given["most"])
    report = messages.decode(messages.Report, bytes.fromhex(given["report"]))
    body = messages.decode(messages.ReportBody, report.body)
    reported = {bytes.fromhex(nullifier) for nullifier in given["reported"]}
    reasons = declaration.check_contacts(curve, random, rules, body.contacts, reported)
    if not any(reasons):
        digest = declaration.digest_of(report.body, bytes.fromhex(given["parameters"]))
        declaration.check_ownership(curve, random, read_issuer(curve, given), body.contacts, digest, report.ownership)
    return {"reasons": [int(reason) for reason in reasons]}


def _labeled_extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + HPKE_SUITE + label + material, "sha256")


def _labeled_expand(secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    information = size.to_bytes(2, "big") + b"HPKE-v1" + HPKE_SUITE + label + context + b"\1"
    return hmac.digest(secret, information, "sha256")[:size]


def make_opened_report(_: Curve, given: Values) -> Values:
    """A sealed report, opened: HPKE by RFC 9180 in base mode, its KEM is X-Wing."""
    seed = bytes.fromhex(given["seed"])
    secret = declaration.read_seal_secret(seed)
    sealed = messages.decode(messages.SealedReport, bytes.fromhex(given["sealed"]))
    report = declaration.unseal(secret, sealed)
    info = joined([b"SPOT-V1-REPORT", secret.public, sealed.parameters])
    lattice, curve = MLKEM768PrivateKey.from_seed_bytes(seed[:64]), X25519PrivateKey.from_private_bytes(seed[64:])
    first, second, ciphertext = sealed.sealed[:1088], sealed.sealed[1088:1120], sealed.sealed[1120:]
    shared = lattice.decapsulate(first) + curve.exchange(X25519PublicKey.from_public_bytes(second))
    combined = hashlib.sha3_256(shared + second + curve.public_key().public_bytes_raw() + XWING_LABEL).digest()
    context = b"\0" + _labeled_extract(b"", b"psk_id_hash", b"") + _labeled_extract(b"", b"info_hash", info)
    schedule = _labeled_extract(combined, b"secret", b"")
    key, nonce = (_labeled_expand(schedule, *what) for what in ((b"key", context, 32), (b"base_nonce", context, 12)))
    padded = ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"")
    assert messages.unpad(padded) == messages.encode(report)
    return {
        "public": secret.public.hex(),
        "info": info.hex(),
        "shared_secret": combined.hex(),
        "key": key.hex(),
        "nonce": nonce.hex(),
        "report": messages.encode(report).hex(),
        "receipt_size": declaration.receipt_size(sealed),
    }


def make_receipt(_: Curve, given: Values) -> Values:
    """A sealed receipt."""
    receipt = messages.decode(messages.Receipt, bytes.fromhex(given["receipt"]))
    key, nonce, size = bytes.fromhex(given["reply_key"]), bytes.fromhex(given["nonce"]), given["size"]
    encoded = bytes.fromhex(given["receipt"])
    padded = len(encoded).to_bytes(4, "big") + encoded
    padded += bytes(size - 12 - 16 - len(padded))
    sealed = nonce + ChaCha20Poly1305(key).encrypt(nonce, padded, b"SPOT-V1-REPORT")
    assert declaration.seal_receipt(lambda _: nonce, receipt, key, size) == sealed
    return {"sealed": sealed.hex(), **make_opened_receipt(_, {"reply_key": given["reply_key"], "sealed": sealed.hex()})}


def make_opened_receipt(_: Curve, given: Values) -> Values:
    """A sealed receipt, opened."""
    opened = declaration.open_receipt(bytes.fromhex(given["sealed"]), bytes.fromhex(given["reply_key"]))
    return {"fields": plain(opened)}


# --- messages ---


def make_unpadded(_: Curve, given: Values) -> Values:
    """What was padded."""
    data = messages.unpad(bytes.fromhex(given["padded"]))
    assert messages.pad(data, len(given["padded"]) // 2).hex() == given["padded"]
    return {"data": data.hex()}


def make_decoded(_: Curve, given: Values) -> Values:
    """A message's fields."""
    kind: type[messages.Message] = getattr(messages, given["message"])
    message = messages.decode(kind, bytes.fromhex(given["bytes"]))
    assert messages.encode(message).hex() == given["bytes"]
    return {"fields": plain(message)}


# --- chains ---


def _heads(heads: list[messages.Head]) -> list[Values]:
    return [plain(head) for head in heads]


def make_link(_: Curve, given: Values) -> Values:
    """One link, signed."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(given["key_seed"]))
    tag, body = given["tag"].encode(), bytes.fromhex(given["body"])
    signed = joined([tag, body])
    link = chain.sign(key, tag, body)
    assert link.signature == key.sign(signed)
    digest = hashlib.sha256(signed).digest()
    assert chain.hash_of(tag, link) == digest
    return {
        "public": key.public_key().public_bytes_raw().hex(),
        "signed": signed.hex(),
        "signature": link.signature.hex(),
        "link": messages.encode(link).hex(),
        "hash": digest.hex(),
    }


def make_followed_parameters(_: Curve, given: Values) -> Values:
    """A chain of parameters, followed from its genesis."""
    links = [messages.decode(messages.Link, bytes.fromhex(link)) for link in given["links"]]
    trusted = parameters.begin(links[0])
    heads, fingerprint = [trusted.head], chain.fingerprint(trusted.head.hash)
    for link in links[1:]:
        trusted = parameters.advance(trusted, link)
        heads.append(trusted.head)
    return {"heads": _heads(heads), "fingerprint": fingerprint, "last": plain(trusted.parameters)}


def make_keys(curve: Curve, given: Values) -> Values:
    """The keys in parameters, checked."""
    content = messages.decode(messages.Parameters, bytes.fromhex(given["body"]))
    keys = parameters.read_keys(curve, content)
    return {
        "servers": {str(number): key.encode().hex() for number, key in keys.signers.servers.items()},
        "ends": {str(name): day for name, day in keys.signers.ends.items()},
        "groups": {name: key.encoded.hex() for name, key in keys.signers.groups.items()},
        "issuers": {str(number): key.encoded.hex() for number, key in keys.issuers.items()},
    }


def make_publication(_: Curve, given: Values) -> Values:
    """The body of a publication from declared tokens."""
    entries = [
        publication.PublishedToken(bytes.fromhex(one["token"]), one["day"], one["level"]) for one in given["tokens"]
    ]
    head = messages.Head(number=given["head"]["number"], hash=bytes.fromhex(given["head"]["hash"]))
    (built,) = publication.build(Stream(given["seed"].encode()), head, given["issued_at"], entries, given["floor"])
    return {"fields": plain(built), "body": messages.encode(built).hex()}


def make_followed_publications(_: Curve, given: Values) -> Values:
    """A chain of publications, followed, and which of one's own tokens are in it."""
    head, found = chain.EMPTY, []
    heads: list[messages.Head] = []
    keys = [
        messages.PublicationKey(first=one["first"], key=bytes.fromhex(one["key"])) for one in given["publication_keys"]
    ]
    own = sorted(bytes.fromhex(token) for token in given["own"])
    for data in given["links"]:
        link = messages.decode(messages.Link, bytes.fromhex(data))
        if "forgotten" in given and not heads:
            head, batch = publication.resume(head, keys, link, given["forgotten"])
        else:
            head, batch = publication.follow(head, keys, link)
        heads.append(head)
        matches = publication.match(batch, {day.day: own for day in batch.days})
        found += [{"token": one.token.hex(), "day": one.day, "level": one.level} for one in matches]
    return {"heads": _heads(heads), "found": found}
