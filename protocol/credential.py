"""The anonymous credential: issue, join, show, verify (*Set_UserID, Userkeygen, Setup_ProxyGr, Join_ProxyGr*).

A Pointcheval-Sanders credential on a secret key (CT-RSA 2016), shown as in direct anonymous attestation with basenames
(Brickell, Camenisch, Chen, CCS 2004; Bernhard et al., IJIS 2013). One primitive used twice: users hold one from the
authority, proxies one from their group's manager.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol import batch, hashing, messages, randomness
from protocol.batch import Linear, Pairing
from protocol.curve import G1, G2, ORDER, Curve, decode_scalar, encode_scalar
from protocol.errors import Malformed, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol.batch import Claim
    from protocol.randomness import Random


class Purpose(enum.Enum):
    """What a credential is shown for. A show for one purpose is worthless for another."""

    SUBMISSION = b"SUBMISSION"
    EXTENSION = b"EXTENSION"
    OWNERSHIP = b"OWNERSHIP"


class Holder(enum.Enum):
    """Whom an issuer key is for; part of the key's own proof and of every join."""

    USER = b"USER"
    PROXY = b"PROXY"


@dataclass(frozen=True, slots=True)
class IssuerSecret:
    """x and y of an issuer."""

    x: int = field(repr=False)
    y: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """An issuer's public key, its proof of knowledge checked. `encoded`: X~ ‖ Y~, 192 bytes."""

    holder: Holder
    x: G2
    y: G2
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """A member's secret key and the credential (S1, S2) on it."""

    secret: int = field(repr=False)
    s1: G1 = field(repr=False)
    s2: G1 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Randomised:
    """A credential made unrecognisable: A = t·S1, B = t·S2, D = sk·A."""

    a: G1
    b: G1
    d: G1

    @property
    def encoded(self) -> tuple[bytes, bytes, bytes]:
        """A, B and D, 48 bytes each."""
        return self.a.encode(), self.b.encode(), self.d.encode()


@dataclass(frozen=True, slots=True)
class Statement:
    """What a show says: for which purpose, under which issuer key, about which bases and message."""

    purpose: Purpose
    issuer: IssuerKey
    bases: tuple[G1, ...]
    message: bytes


# --- issuer ---


def new_issuer(curve: Curve, random: Random, holder: Holder) -> tuple[IssuerSecret, messages.IssuerPublic]:
    """A fresh issuer key (*Setup_ProxyGr* for a group) with its proof of knowledge of x and y."""
    secret = IssuerSecret(randomness.scalar(random), randomness.scalar(random))
    x, y = (secret.x * curve.g2).encode(), (secret.y * curve.g2).encode()
    nonce_x, nonce_y = randomness.scalar(random), randomness.scalar(random)
    challenge = _issuer_challenge(holder, x, y, nonce_x * curve.g2, nonce_y * curve.g2)
    return secret, messages.IssuerPublic(
        x=x,
        y=y,
        challenge=encode_scalar(challenge),
        answer_x=encode_scalar((nonce_x + challenge * secret.x) % ORDER),
        answer_y=encode_scalar((nonce_y + challenge * secret.y) % ORDER),
    )


def read_issuer(curve: Curve, holder: Holder, public: messages.IssuerPublic) -> IssuerKey:
    """Check an issuer's public key. Raises Malformed, or Refused where its proof of knowledge fails."""
    x = curve.decode_g2(public.x, "the issuer key's X")
    y = curve.decode_g2(public.y, "the issuer key's Y")
    challenge = decode_scalar(public.challenge, "the issuer key's challenge")
    commitment_x = decode_scalar(public.answer_x, "the issuer key's answer for x") * curve.g2 - challenge * x
    commitment_y = decode_scalar(public.answer_y, "the issuer key's answer for y") * curve.g2 - challenge * y
    if _issuer_challenge(holder, public.x, public.y, commitment_x, commitment_y) != challenge:
        raise Refused("the issuer key comes without proof that its owner knows the secret; do not use this authority")
    return IssuerKey(holder, x, y, public.x + public.y)


def _issuer_challenge(holder: Holder, x: bytes, y: bytes, commitment_x: G2, commitment_y: G2) -> int:
    return hashing.to_scalar(hashing.ISSUER, holder.value, x, y, commitment_x.encode(), commitment_y.encode())


# --- join ---


def new_secret(random: Random) -> int:
    """A member's secret key sk."""
    return randomness.scalar(random)


def join(curve: Curve, random: Random, secret: int, issuer: IssuerKey, nonce: bytes) -> messages.JoinRequest:
    """Ask for a credential on `secret` (*Userkeygen*, *Join_ProxyGr*); `nonce` is the issuer's, 32 bytes, single use.

    Only a proxy sends the opening key T~ = sk·Y~: with it, whoever holds it recognises all that the member signs.
    """
    public = (secret * curve.g1).encode()
    opening = (secret * issuer.y).encode() if issuer.holder is Holder.PROXY else None
    blind = randomness.scalar(random)
    challenge = _join_challenge(issuer, public, opening, nonce, blind * curve.g1)
    return messages.JoinRequest(
        nonce=nonce,
        public=public,
        opening=opening,
        challenge=encode_scalar(challenge),
        answer=encode_scalar((blind + challenge * secret) % ORDER),
    )


def issue(
    curve: Curve,
    random: Random,
    secret: IssuerSecret,
    issuer: IssuerKey,
    request: messages.JoinRequest,
    nonce: bytes,
) -> messages.Issued:
    """Check a join request against the nonce given out, and issue. Raises Malformed or Refused.

    That nonce and public key are used once is the caller's to keep.
    """
    public = curve.decode_g1(request.public, "the join request's public key")
    challenge = decode_scalar(request.challenge, "the join request's challenge")
    answer = decode_scalar(request.answer, "the join request's answer")
    if request.nonce != nonce:
        raise Refused("this join request answers another nonce; ask for a new one")
    if (request.opening is not None) is not (issuer.holder is Holder.PROXY):
        raise Refused("an opening key is sent by proxies, and by proxies only")
    commitment = answer * curve.g1 - challenge * public
    if _join_challenge(issuer, request.public, request.opening, nonce, commitment) != challenge:
        raise Refused("the join request does not prove that its sender knows the secret key; join anew")
    if request.opening is not None:
        opening = curve.decode_g2(request.opening, "the join request's opening key")
        if not curve.pairing_product_is_one([(public, issuer.y), (-curve.g1, opening)]):
            raise Refused("the opening key does not belong to the public key; join anew")
    blind = randomness.scalar(random)
    s2 = blind * (secret.x * curve.g1 + secret.y * public)
    return messages.Issued(s1=(blind * curve.g1).encode(), s2=s2.encode())


def accept(curve: Curve, secret: int, issuer: IssuerKey, issued: messages.Issued) -> Credential:
    """Check what the issuer gave: e(S2, g~) = e(S1, X~ + sk·Y~). Raises Malformed or Refused."""
    s1 = curve.decode_g1(issued.s1, "the credential's S1")
    s2 = curve.decode_g1(issued.s2, "the credential's S2")
    if not curve.pairing_product_is_one([(s2, curve.g2), (-s1, issuer.x + secret * issuer.y)]):
        raise Refused("the issuer gave a credential that is not valid under its own key; join anew")
    return Credential(secret, s1, s2)


def _join_challenge(issuer: IssuerKey, public: bytes, opening: bytes | None, nonce: bytes, commitment: G1) -> int:
    return hashing.to_scalar(
        hashing.JOIN, issuer.holder.value, issuer.encoded, public, opening or b"", nonce, commitment.encode()
    )


# --- show ---


def randomise(random: Random, credential: Credential) -> Randomised:
    """The first part of a show; unlinkable to any other under DDH in G1."""
    blind = randomness.scalar(random)
    a = blind * credential.s1
    return Randomised(a, blind * credential.s2, credential.secret * a)


def show(
    random: Random, credential: Credential, statement: Statement, randomised: Randomised | None = None
) -> messages.Show:
    """Show the credential. Costs 4 multiplications in G1, and 2 a base; no pairing."""
    first = randomised or randomise(random, credential)
    nonce = randomness.scalar(random)
    encoded = first.encoded
    k = (nonce * first.a).encode()
    nullifiers = tuple((credential.secret * base).encode() for base in statement.bases)
    commitments = tuple((nonce * base).encode() for base in statement.bases)
    challenge = _show_challenge(statement, encoded, k, nullifiers, commitments)
    return messages.Show(
        a=encoded[0],
        b=encoded[1],
        d=encoded[2],
        k=k,
        nullifiers=nullifiers,
        commitments=commitments,
        answer=encode_scalar((nonce + challenge * credential.secret) % ORDER),
    )


def show_claim(curve: Curve, statement: Statement, shown: messages.Show) -> Claim:
    """The equations that a show must satisfy. Raises Malformed where a part is no group element."""
    a = curve.decode_g1(shown.a, "the show's A")
    b = curve.decode_g1(shown.b, "the show's B")
    d = curve.decode_g1(shown.d, "the show's D")
    k = curve.decode_g1(shown.k, "the show's K")
    count = len(statement.bases)
    if len(shown.nullifiers) != count or len(shown.commitments) != count:
        raise Malformed(f"this show needs exactly {count} nullifiers and commitments; the sender is broken")
    answer = decode_scalar(shown.answer, "the show's answer")
    challenge = _show_challenge(statement, (shown.a, shown.b, shown.d), shown.k, shown.nullifiers, shown.commitments)
    equations: list[Linear | Pairing] = [Linear((a, k, d), (answer, -1, -challenge))]
    for base, nullifier, commitment in zip(statement.bases, shown.nullifiers, shown.commitments, strict=True):
        if base.is_identity:
            raise Malformed("a base of this show is the identity; the sender is broken or hostile")
        points = (
            base,
            curve.decode_g1(commitment, "the show's commitment"),
            curve.decode_g1(nullifier, "the show's nullifier"),
        )
        equations.append(Linear(points, (answer, -1, -challenge)))
    issuer = statement.issuer
    equations.append(Pairing(((b, curve.g2), (-a, issuer.x), (-d, issuer.y))))
    return tuple(equations)


def verify(curve: Curve, random: Random, statement: Statement, shown: messages.Show) -> None:
    """Check one show. Raises Malformed or Refused."""
    if not batch.holds(curve, random, [show_claim(curve, statement, shown)]):
        raise Refused("the proof of a valid credential does not hold; it was altered, or its maker never joined")


def opens(curve: Curve, issuer: IssuerKey, shown: messages.Show, openings: Sequence[G2]) -> int | None:
    """Which of these members' opening keys T~ made this show: e(A, T~) = e(D, Y~); None if none did."""
    a = curve.decode_g1(shown.a, "the show's A")
    d = curve.decode_g1(shown.d, "the show's D")
    for index, opening in enumerate(openings):
        if curve.pairing_product_is_one([(a, opening), (-d, issuer.y)]):
            return index
    return None


def _show_challenge(
    statement: Statement,
    first: tuple[bytes, bytes, bytes],
    k: bytes,
    nullifiers: Sequence[bytes],
    commitments: Sequence[bytes],
) -> int:
    issuer = statement.issuer
    return hashing.to_scalar(
        hashing.SHOW,
        statement.purpose.value,
        issuer.holder.value,
        issuer.encoded,
        hashing.number(len(statement.bases)),
        *first,
        k,
        *(base.encode() for base in statement.bases),
        *nullifiers,
        *commitments,
        statement.message,
    )
