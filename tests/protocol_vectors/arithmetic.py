"""Vectors of hashing, encodings and the credential.

Each function takes what a vector gives and returns all that follows from it, intermediate values included, written
from docs/protocol.md rather than with the code under test, and compared with what that code makes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from py_ecc.bls.hash import expand_message_xmd

from protocol import credential, hashing, messages, randomness
from protocol.credential import Holder, IssuerSecret, Purpose, Statement
from protocol.curve import ORDER, decode_scalar
from tests.protocol_vectors.plain import Values, plain, read_credential, read_issuer, read_scalar, scalar
from tests.protocol_vectors.source import Chosen, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.curve import Curve


def joined(parts: Sequence[bytes]) -> bytes:
    """Parts behind their lengths."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def to_scalar(tag: bytes, transcript: bytes) -> int:
    """Hs, by py_ecc's expansion."""
    wide: bytes = expand_message_xmd(transcript, tag, 48, hashlib.sha256)
    return int.from_bytes(wide, "big") % ORDER


def _bytes(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


# --- hashing and encodings ---


def make_stream(_: Curve, given: Values) -> Values:
    """The source of random bytes that these vectors were made with."""
    stream = Stream(given["seed"].encode())
    return {"pieces": [stream(size).hex() for size in given["sizes"]]}


def make_random_scalar(_: Curve, given: Values) -> Values:
    """A scalar from 48 random bytes."""
    data = bytes.fromhex(given["random"])
    value = int.from_bytes(data, "big") % (ORDER - 1) + 1
    assert randomness.scalar(lambda _: data) == value
    return {"scalar": scalar(value)}


def make_joined(_: Curve, given: Values) -> Values:
    """Length-prefixed parts."""
    result = joined(_bytes(given["parts"]))
    assert hashing.joined(*_bytes(given["parts"])) == result
    return {"joined": result.hex()}


def make_number(_: Curve, given: Values) -> Values:
    """A number as it is hashed."""
    result: int = given["number"]
    assert hashing.number(result) == result.to_bytes(8, "big")
    return {"bytes": result.to_bytes(8, "big").hex()}


def make_expansion(_: Curve, given: Values) -> Values:
    """expand_message_xmd."""
    message = bytes.fromhex(given["message"])
    result = hashing.expand(given["tag"].encode(), message, given["size"])
    assert expand_message_xmd(message, given["tag"].encode(), given["size"], hashlib.sha256) == result
    return {"expanded": result.hex()}


def make_hashes(curve: Curve, given: Values) -> Values:
    """The three hashes under one tag: to 32 bytes, to a scalar, to G1 (the joined parts are the message)."""
    tag, parts = given["tag"].encode(), _bytes(given["parts"])
    digest = hashlib.sha256(joined([tag, *parts])).digest()
    value = to_scalar(tag, joined(parts))
    assert hashing.digest(tag, *parts) == digest
    assert hashing.to_scalar(tag, *parts) == value
    point = curve.hash_to_g1(tag, joined(parts))
    return {"joined": joined(parts).hex(), "digest": digest.hex(), "scalar": scalar(value), "g1": point.encode().hex()}


def make_g1(curve: Curve, given: Values) -> Values:
    """A point of G1 from its encoding."""
    point = curve.decode_g1(bytes.fromhex(given["encoded"]), "the point")
    return {"doubled": (2 * point).encode().hex()}


def make_g2(curve: Curve, given: Values) -> Values:
    """A point of G2 from its encoding."""
    point = curve.decode_g2(bytes.fromhex(given["encoded"]), "the point")
    return {"doubled": (2 * point).encode().hex()}


def make_scalar(_: Curve, given: Values) -> Values:
    """A scalar from its encoding."""
    value = decode_scalar(bytes.fromhex(given["encoded"]), "the scalar")
    return {"negated": scalar(-value % ORDER)}


# --- credential ---


def make_issuer(curve: Curve, given: Values) -> Values:
    """An issuer key with its proof."""
    x, y, nonce_x, nonce_y = (read_scalar(given[name]) for name in ("x", "y", "nonce_x", "nonce_y"))
    points = [(value * curve.g2).encode() for value in (x, y, nonce_x, nonce_y)]
    transcript = joined([given["holder"].encode(), *points])
    challenge = to_scalar(b"SPOT-V1-ISSUER", transcript)
    _, message = credential.new_issuer(curve, Chosen(x, y, nonce_x, nonce_y), Holder(given["holder"].encode()))
    answers = scalar((nonce_x + challenge * x) % ORDER), scalar((nonce_y + challenge * y) % ORDER)
    assert plain(message) == {
        "x": points[0].hex(),
        "y": points[1].hex(),
        "challenge": scalar(challenge),
        "answer_x": answers[0],
        "answer_y": answers[1],
    }
    return {
        "commitment_x": points[2].hex(),
        "commitment_y": points[3].hex(),
        "transcript": transcript.hex(),
        "fields": plain(message),
        "message": messages.encode(message).hex(),
    }


def make_checked_issuer(curve: Curve, given: Values) -> Values:
    """An issuer key as others accept it."""
    message = messages.decode(messages.IssuerPublic, bytes.fromhex(given["message"]))
    key = credential.read_issuer(curve, Holder(given["holder"].encode()), message)
    return {"issuer": key.encoded.hex()}


def make_join(curve: Curve, given: Values) -> Values:
    """A join request."""
    issuer, nonce = read_issuer(curve, given), bytes.fromhex(given["nonce"])
    secret, blind = read_scalar(given["secret"]), read_scalar(given["blind"])
    public = (secret * curve.g1).encode()
    opening = (secret * issuer.y).encode() if given["holder"] == "PROXY" else b""
    commitment = (blind * curve.g1).encode()
    transcript = joined([given["holder"].encode(), issuer.encoded, public, opening, nonce, commitment])
    challenge = to_scalar(b"SPOT-V1-JOIN", transcript)
    message = credential.join(curve, Chosen(blind), secret, issuer, nonce)
    assert plain(message) == {
        "nonce": nonce.hex(),
        "public": public.hex(),
        "opening": opening.hex() or None,
        "challenge": scalar(challenge),
        "answer": scalar((blind + challenge * secret) % ORDER),
    }
    return {
        "commitment": commitment.hex(),
        "transcript": transcript.hex(),
        "fields": plain(message),
        "message": messages.encode(message).hex(),
    }


def make_issued(curve: Curve, given: Values) -> Values:
    """The credential that is issued to a join request."""
    issuer, nonce = read_issuer(curve, given), bytes.fromhex(given["nonce"])
    request = messages.decode(messages.JoinRequest, bytes.fromhex(given["request"]))
    x, y, blind = (read_scalar(given[name]) for name in ("x", "y", "blind"))
    issued = credential.issue(curve, Chosen(blind), IssuerSecret(x, y), issuer, request, nonce)
    public = curve.decode_g1(request.public, "T")
    assert issued.s1 == (blind * curve.g1).encode()
    assert issued.s2 == ((blind * x % ORDER) * curve.g1 + (blind * y % ORDER) * public).encode()
    return {"fields": plain(issued), "message": messages.encode(issued).hex()}


def make_accepted(curve: Curve, given: Values) -> Values:
    """The credential as its member accepts it."""
    issued = messages.decode(messages.Issued, bytes.fromhex(given["issued"]))
    own = credential.accept(curve, read_scalar(given["secret"]), read_issuer(curve, given), issued)
    return {"s1": own.s1.encode().hex(), "s2": own.s2.encode().hex()}


def make_show(curve: Curve, given: Values) -> Values:
    """A credential shown."""
    own, issuer = read_credential(curve, given), read_issuer(curve, given)
    bases = [curve.decode_g1(data, "a base") for data in _bytes(given["bases"])]
    message, blind, nonce = bytes.fromhex(given["message"]), read_scalar(given["blind"]), read_scalar(given["nonce"])
    a = blind * own.s1
    first = [point.encode() for point in (a, blind * own.s2, own.secret * a, nonce * a)]
    nullifiers = [(own.secret * base).encode() for base in bases]
    commitments = [(nonce * base).encode() for base in bases]
    head = [given["purpose"].encode(), given["holder"].encode(), issuer.encoded, len(bases).to_bytes(8, "big")]
    transcript = joined([*head, *first, *_bytes(given["bases"]), *nullifiers, *commitments, message])
    challenge = to_scalar(b"SPOT-V1-SHOW", transcript)
    statement = Statement(Purpose(given["purpose"].encode()), issuer, tuple(bases), message)
    shown = credential.show(Chosen(blind, nonce), own, statement)
    fields: dict[str, Any] = dict(zip(("a", "b", "d", "k"), (point.hex() for point in first), strict=True))
    fields |= {"nullifiers": plain(nullifiers), "commitments": plain(commitments)}
    fields |= {"answer": scalar((nonce + challenge * own.secret) % ORDER)}
    assert plain(shown) == fields
    return {
        "transcript": transcript.hex(),
        "challenge": scalar(challenge),
        "fields": fields,
        "show": messages.encode(shown).hex(),
    }


def make_verified(curve: Curve, given: Values) -> Values:
    """A show as others accept it."""
    bases = tuple(curve.decode_g1(data, "a base") for data in _bytes(given["bases"]))
    message, purpose = bytes.fromhex(given["message"]), Purpose(given["purpose"].encode())
    shown = messages.decode(messages.Show, bytes.fromhex(given["show"]))
    credential.verify(curve, Stream(b"weights"), Statement(purpose, read_issuer(curve, given), bases, message), shown)
    return {"valid": True}


def make_opened(curve: Curve, given: Values) -> Values:
    """Which member made a show, by their opening keys."""
    openings = [curve.decode_g2(data, "an opening key") for data in _bytes(given["openings"])]
    shown = messages.decode(messages.Show, bytes.fromhex(given["show"]))
    return {"index": credential.opens(curve, read_issuer(curve, given), shown, openings)}
