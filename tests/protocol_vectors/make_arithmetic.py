"""Makes hashing.json, points.json and credential.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from py_ecc.bls.point_compression import decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import curve_order, field_modulus, is_inf, multiply

from protocol import hashing, messages
from protocol.curve import ORDER
from tests.protocol_vectors.arithmetic import joined, to_scalar
from tests.protocol_vectors.cast import Cast, Member, chosen
from tests.protocol_vectors.making import File, stream
from tests.protocol_vectors.plain import read_scalar, scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values

TAGS = ["ISSUER", "JOIN", "SHOW", "ENCOUNTER", "CCM", "EXPOSURE", "NULLIFIER"]
TAGS += ["PARTIAL", "REPORT", "OWN-WEIGHT", "PARAMETERS", "PUBLICATION"]
COMPRESSED, INFINITY, LARGER_Y = 0x80, 0x40, 0x20


def make_hashing(curve: Curve) -> File:
    """Hashing, under every tag."""
    file = File("Hashing as in docs/protocol.md; and how these vectors' random bytes are made. Hexadecimal.", curve)
    file.gives("stream", "three pieces", seed="SPOT test vectors: example", sizes=[1, 32, 48])
    random = stream("random scalars")
    file.gives("random scalar", "any", random=random(48).hex())
    file.gives("random scalar", "zero becomes one", random=bytes(48).hex())
    file.gives("random scalar", "r - 1 becomes one", random=(ORDER - 1).to_bytes(48, "big").hex())
    file.gives("joined", "no part", parts=[])
    file.gives("joined", "an empty part", parts=[""])
    file.gives("joined", "two parts", parts=["00", "0102"])
    file.gives("joined", "one part of the same bytes", parts=["000102"])
    for value in (0, 1, 20_000, 2**63):
        file.gives("number", str(value), number=value)
    for size in (32, 48, 128):
        file.gives("expansion", f"to {size} bytes", tag="SPOT-V1-SHOW", message=b"abc".hex(), size=size)
    file.gives("expansion", "of nothing", tag="SPOT-V1-SHOW", message="", size=48)
    for tag in TAGS:
        assert f"SPOT-V1-{tag}".encode() in vars(hashing).values()
        file.gives("hashes", f"nothing under {tag}", tag=f"SPOT-V1-{tag}", parts=[])
        parts = [random(32).hex(), hashing.number(20_000).hex()]
        file.gives("hashes", f"two parts under {tag}", tag=f"SPOT-V1-{tag}", parts=parts)
    return file


def _encoding(flags: int, *coordinates: int) -> str:
    parts = [value.to_bytes(48, "big") for value in coordinates]
    return (bytes([parts[0][0] | flags]) + b"".join(parts)[1:]).hex()


def _search(decompress: Callable[[int], Any]) -> Iterator[tuple[int, Any]]:
    for x in range(1, 200):
        try:
            yield x, decompress(x)
        except ValueError:
            yield x, None


def make_points(curve: Curve) -> File:
    """Encodings of points and scalars, good and bad."""
    file = File("Encodings of points and scalars: what is accepted, and what must be refused. Hexadecimal.", curve)
    for kind, generator, width in (("G1", curve.g1, 1), ("G2", curve.g2, 2)):
        zeros = [0] * (width - 1)
        file.gives(kind, "the generator", encoded=generator.encode().hex())
        file.gives(kind, "its negative", encoded=(-generator).encode().hex())
        file.gives(kind, "another", encoded=(12345 * generator).encode().hex())
        bad = "malformed"
        file.refuses(kind, "the identity", bad, encoded=_encoding(COMPRESSED | INFINITY, 0, *zeros))
        file.refuses(
            kind, "the identity, with the sign bit", bad, encoded=_encoding(COMPRESSED | INFINITY | LARGER_Y, 0, *zeros)
        )
        file.refuses(kind, "the identity, with other bits", bad, encoded=_encoding(COMPRESSED | INFINITY, 1, *zeros))
        file.refuses(
            kind, "the identity, with bits at the end", bad, encoded=_encoding(COMPRESSED | INFINITY, *zeros, 1)
        )
        file.refuses(kind, "the generator, with the identity's bit", bad, encoded=_with(generator.encode(), INFINITY))
        file.refuses(kind, "zeros", bad, encoded=_encoding(0, 0, *zeros))
        file.refuses(kind, "not marked as compressed", bad, encoded=_without(generator.encode(), COMPRESSED))
        file.refuses(kind, "the field's modulus", bad, encoded=_encoding(COMPRESSED, field_modulus, *zeros))
        file.refuses(kind, "above the field's modulus", bad, encoded=_encoding(COMPRESSED, 2**381 - 1, *zeros))
        if zeros:
            file.refuses(kind, "a second half above the modulus", bad, encoded=_encoding(COMPRESSED, 0, field_modulus))
            file.refuses(kind, "flags in the second half", bad, encoded=_encoding(COMPRESSED, 1, 2**383))
        off, outside = _bad_points(kind)
        file.refuses(kind, "not on the curve", bad, encoded=off)
        file.refuses(kind, "on the curve, outside the subgroup", bad, encoded=outside)
        file.refuses(kind, "a byte short", bad, encoded=generator.encode()[:-1].hex())
        file.refuses(kind, "a byte long", bad, encoded=generator.encode().hex() + "00")
        file.refuses(kind, "nothing", bad, encoded="")
    for name, value in (("zero", 0), ("one", 1), ("r - 1", ORDER - 1)):
        file.gives("scalar", name, encoded=scalar(value))
    for name, value in (("r", ORDER), ("r + 1", ORDER + 1), ("all ones", 2**256 - 1)):
        file.refuses("scalar", name, "malformed", encoded=value.to_bytes(32, "big").hex())
    file.refuses("scalar", "a byte short", "malformed", encoded=bytes(31).hex())
    file.refuses("scalar", "a byte long", "malformed", encoded=bytes(33).hex())
    return file


def _with(data: bytes, flag: int) -> str:
    return (bytes([data[0] | flag]) + data[1:]).hex()


def _without(data: bytes, flag: int) -> str:
    return (bytes([data[0] & ~flag]) + data[1:]).hex()


def _bad_points(kind: str) -> tuple[str, str]:
    """An encoding off the curve, and one outside the subgroup."""
    mark = COMPRESSED << 376

    def decompress(x: int) -> Any:
        return decompress_G1(mark | x) if kind == "G1" else decompress_G2((mark, x))

    found = list(_search(decompress))
    coordinates = (lambda x: (x,)) if kind == "G1" else (lambda x: (0, x))
    off = next(x for x, point in found if point is None)
    outside = next(x for x, point in found if point is not None and not is_inf(multiply(point, curve_order)))
    return _encoding(COMPRESSED, *coordinates(off)), _encoding(COMPRESSED, *coordinates(outside))


def make_credential(curve: Curve) -> File:
    """Issue, join, show, verify, open."""
    cast = Cast(curve)
    file = File("The credential: issuer keys, joining, showing, verifying, opening. Hexadecimal.", curve)
    _make_joining(file, cast)
    for member in (cast.ada, cast.proxy):
        _make_shows(file, member)
    shows = [
        file.gives("show", f"of {one.name}, to be opened", **_statement("EXTENSION", one, 0, "opening"))
        for one in (cast.proxy, cast.other_proxy)
    ]
    openings = [cast.other_proxy.opening, cast.proxy.opening]
    for index, shown in enumerate(shows):
        file.gives("opened", f"number {index}", show=shown["show"], openings=openings, **cast.north.given)
    file.gives("opened", "made by nobody listed", show=shows[0]["show"], openings=openings[:1], **cast.north.given)
    return file


def _make_joining(file: File, cast: Cast) -> None:
    nonce = stream("join nonce")(32).hex()
    for issuer, member in ((cast.users, cast.ada), (cast.north, cast.proxy)):
        holder = issuer.given["holder"]
        secrets = {"x": scalar(issuer.secret.x), "y": scalar(issuer.secret.y)}
        made = file.gives("issuer", holder, holder=holder, **secrets, **chosen(f"{holder} proof", "nonce_x", "nonce_y"))
        file.gives("checked issuer", holder, holder=holder, message=made["message"])
        other = "PROXY" if holder == "USER" else "USER"
        file.refuses("checked issuer", f"{holder}'s, as {other}'s", "refused", holder=other, message=made["message"])
        secret = scalar(member.secret)
        given = {"secret": secret, "nonce": nonce, **issuer.given}
        request = file.gives("join", holder, **given, **chosen(f"{holder} join", "blind"))
        issuing = {"nonce": nonce, **secrets, **issuer.given, **chosen(f"{holder} issue", "blind")}
        issued = file.gives("issued", holder, request=request["message"], **issuing)
        file.gives("accepted", holder, secret=secret, issued=issued["message"], **issuer.given)
        wrong = scalar(member.secret + 1)
        file.refuses(
            "accepted",
            f"{holder}, for another secret",
            "refused",
            secret=wrong,
            issued=issued["message"],
            **issuer.given,
        )
        message = messages.decode(messages.JoinRequest, bytes.fromhex(request["message"]))
        for name, bad in _bad_requests(cast, message).items():
            data = messages.encode(bad).hex()
            file.refuses("issued", f"{holder}, {name}", "refused", request=data, **issuing)
        file.refuses(
            "issued",
            f"{holder}, for another nonce",
            "refused",
            request=request["message"],
            **(issuing | {"nonce": bytes(32).hex()}),
        )


def _bad_requests(cast: Cast, good: messages.JoinRequest) -> dict[str, messages.JoinRequest]:
    def altered(**fields: Any) -> messages.JoinRequest:
        return messages.JoinRequest(**{name: fields.get(name, getattr(good, name)) for name in good.__struct_fields__})

    foreign = (7 * cast.curve.g1).encode()
    bad = {
        "a challenge of zero": altered(challenge=bytes(32)),
        "another answer": altered(answer=scalar_after(good.answer)),
        "another public key": altered(public=foreign),
    }
    if good.opening is None:
        bad["with an opening key"] = altered(opening=bytes.fromhex(cast.proxy.opening))
    else:
        bad["without its opening key"] = altered(opening=None)
        bad["with another's opening key"] = altered(opening=bytes.fromhex(cast.other_proxy.opening))
    return bad


def scalar_after(data: bytes) -> bytes:
    """The next scalar."""
    return bytes.fromhex(scalar((int.from_bytes(data, "big") + 1) % ORDER))


def _statement(purpose: str, member: Member, bases: int, name: str) -> Values:
    points = [member.issuer.curve.hash_to_g1(b"SPOT-V1-NULLIFIER", bytes([index])) for index in range(bases)]
    return {
        "purpose": purpose,
        **member.given,
        "bases": [point.encode().hex() for point in points],
        "message": f"a message for {name}".encode().hex(),
        **chosen(f"show of {member.name}: {purpose}, {bases}, {name}", "blind", "nonce"),
    }


def _make_shows(file: File, member: Member) -> None:
    plans = [("SUBMISSION", 1), ("OWNERSHIP", 2)] if member.issuer.given["holder"] == "USER" else [("EXTENSION", 0)]
    for purpose, bases in plans:
        name = f"{purpose} by {member.name}, {bases} bases"
        given = _statement(purpose, member, bases, "showing")
        shown = file.gives("show", name, **given)
        seen = {one: given[one] for one in ("purpose", "holder", "issuer", "bases", "message")}
        file.gives("verified", name, show=shown["show"], **seen)
        good = messages.decode(messages.Show, bytes.fromhex(shown["show"]))
        curve = member.issuer.curve
        for what, bad in _bad_shows(curve, good).items():
            file.refuses("verified", f"{name}: {what}", "refused", show=messages.encode(bad).hex(), **seen)
        file.refuses(
            "verified", f"{name}: of another message", "refused", show=shown["show"], **(seen | {"message": "00"})
        )
        other = "OWNERSHIP" if purpose != "OWNERSHIP" else "SUBMISSION"
        file.refuses(
            "verified", f"{name}: for another purpose", "refused", show=shown["show"], **(seen | {"purpose": other})
        )
        fewer = [point.encode().hex() for point in [curve.g1] * (bases + 1)]
        file.refuses(
            "verified", f"{name}: for more bases", "malformed", show=shown["show"], **(seen | {"bases": fewer})
        )
        identity = messages.encode(_altered(good, k=_identity()))
        file.refuses("verified", f"{name}: K is the identity", "malformed", show=identity.hex(), **seen)
        if bases == 1:
            forged = _one_weight_forgery(curve, given)
            file.refuses("verified", f"{name}: two errors that cancel under one weight", "refused", show=forged, **seen)


def _identity() -> bytes:
    return bytes([COMPRESSED | INFINITY]) + bytes(47)


def _altered(good: messages.Show, **fields: Any) -> messages.Show:
    return messages.Show(**{name: fields.get(name, getattr(good, name)) for name in good.__struct_fields__})


def _bad_shows(curve: Curve, good: messages.Show) -> dict[str, messages.Show]:
    foreign = (7 * curve.g1).encode()
    bad = {f"another {name.upper()}": _altered(good, **{name: foreign}) for name in "abdk"}
    bad["another answer"] = _altered(good, answer=scalar_after(good.answer))
    if good.nullifiers:
        bad["another nullifier"] = _altered(good, nullifiers=(foreign, *good.nullifiers[1:]))
        bad["another commitment"] = _altered(good, commitments=(foreign, *good.commitments[1:]))
    return bad


def _one_weight_forgery(curve: Curve, given: Values) -> str:
    """A show whose nullifier is not sk·J, and whose two equations hold only when added up.

    For any x, let N = x·(A + J) - D and L = k·(A + J) - K, with K freely chosen. With s = k + c·x, the sum of both
    equations is s·(A + J) - (K + L) - c·(D + N) = 0, though neither holds alone. One weight a proof would accept it.
    """
    base = curve.decode_g1(bytes.fromhex(given["bases"][0]), "J")
    blind, secret = read_scalar(given["blind"]), read_scalar(given["secret"])
    s1, s2 = (curve.decode_g1(bytes.fromhex(given[name]), name) for name in ("s1", "s2"))
    a, b = blind * s1, blind * s2
    d = secret * a
    x, k = (read_scalar(value) for value in chosen("one weight", "x", "k").values())
    commitment_a = 5 * curve.g1
    nullifier, commitment = x * (a + base) - d, k * (a + base) - commitment_a
    encoded = [point.encode() for point in (a, b, d, commitment_a, base, nullifier, commitment)]
    issuer, one = bytes.fromhex(given["issuer"]), (1).to_bytes(8, "big")
    head = [given["purpose"].encode(), given["holder"].encode(), issuer, one]
    challenge = to_scalar(b"SPOT-V1-SHOW", joined([*head, *encoded, bytes.fromhex(given["message"])]))
    answer = (k + challenge * x) % ORDER
    both = answer * (a + base) - (commitment_a + commitment) - challenge * (d + nullifier)
    if not both.is_identity:
        raise ValueError("the forgery is not one")
    shown = messages.Show(
        a=encoded[0],
        b=encoded[1],
        d=encoded[2],
        k=encoded[3],
        nullifiers=(encoded[5],),
        commitments=(encoded[6],),
        answer=bytes.fromhex(scalar(answer)),
    )
    return messages.encode(shown).hex()
