"""What travels: one typed struct a message, MessagePack on the wire, validated here and nowhere else.

Sizes are in bytes, days are UTC days since the Unix epoch, times are seconds since it. Points and scalars stay bytes
here: whether they are group elements is checked, once, by the module that computes with them.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from protocol.errors import Malformed

Point1 = Annotated[bytes, Meta(min_length=48, max_length=48)]
Point2 = Annotated[bytes, Meta(min_length=96, max_length=96)]
Scalar = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Day = Annotated[int, Meta(ge=0, le=10**6)]
Time = Annotated[int, Meta(ge=0, le=10**11)]
Count = Annotated[int, Meta(ge=0, le=2**31)]
Certificate = Annotated[bytes, Meta(min_length=1, max_length=4096)]
# \Z: a dollar sign would also match before a newline at the end.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Url = Annotated[str, Meta(pattern=r"^https?://[!-~]{1,200}\Z")]

MEDIA_TYPE = "application/msgpack"
"""Every body but an error's, which is application/problem+json (RFC 9457) with type `urn:spot:<slug>`."""

# Where messages go. Authority: all but SUBMISSION and PARTIAL. Server: PARTIAL. Proxy: SUBMISSION, DECLARATION, and the
# three that are read, handed on from the authority.
NONCE_PATH = "/v1/nonce"  # POST nothing → Nonce
JOIN_PATH = "/v1/join"  # POST UserJoin → Issued
RENEWAL_PATH = "/v1/renewal"  # POST Renewal → Issued
HEADS_PATH = "/v1/heads"  # GET → Heads
PARAMETERS_PATH = "/v1/parameters/{number}"  # GET → Link
PUBLICATIONS_PATH = "/v1/publications/{number}"  # GET → Link
SUBMISSION_PATH = "/v1/submission"  # POST Submission → Answer, padded to ANSWER_SIZE
PARTIAL_PATH = "/v1/partial"  # POST Submissions → Outcomes
DECLARATION_PATH = "/v1/declaration"  # POST SealedReport → a sealed Receipt of declaration.receipt_size

ANSWER_SIZE = 1024
"""Every answer to a submission: pending, a record, a refusal."""

LINK_LIMIT = 1 << 21
"""No link of a chain is larger, in bytes: twice what the tokens of a publication take at most."""

REPORT_CLASSES = tuple(1 << bits for bits in (14, 16, 18, 20, 22))
"""The sizes that a report is padded to before it is sealed: 16 KiB to 4 MiB."""

RECEIPT_SHARE = 16
"""The authority's answer has this fraction of its report's size class, whatever it says."""

M = TypeVar("M", bound="Message")


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """What all messages share. Nothing in a message is ever printed: most of it is secret to somebody."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# --- credentials ---


class IssuerPublic(Message, frozen=True, kw_only=True):
    """An issuer's public key (X~, Y~) and the proof (c, sx, sy) that the issuer knows x and y."""

    x: Point2
    y: Point2
    challenge: Scalar
    answer_x: Scalar
    answer_y: Scalar


class Nonce(Message, frozen=True, kw_only=True):
    """The issuer's single-use nonce."""

    nonce: Bytes32


class JoinRequest(Message, frozen=True, kw_only=True):
    """T = sk·g with a Schnorr proof of sk; `opening` is T~ = sk·Y~ and is sent by proxies only."""

    nonce: Bytes32
    public: Point1
    opening: Point2 | None = None
    challenge: Scalar
    answer: Scalar


class UserJoin(Message, frozen=True, kw_only=True):
    """A user's join: the invitation and the issuer it is for."""

    invitation: Annotated[str, Meta(max_length=64)]
    issuer: Count
    join: JoinRequest


class Renewal(Message, frozen=True, kw_only=True):
    """A member asks for a credential under a later issuer, on the secret key it joined with."""

    issuer: Count
    join: JoinRequest


class Issued(Message, frozen=True, kw_only=True):
    """The credential (S1, S2); worthless without its secret key."""

    s1: Point1
    s2: Point1


class Show(Message, frozen=True, kw_only=True):
    """A credential shown (A, B, D, K, all Ni, all Li, s): proves possession, reveals the Ni."""

    a: Point1
    b: Point1
    d: Point1
    k: Point1
    nullifiers: Annotated[tuple[Point1, ...], Meta(max_length=4)]
    commitments: Annotated[tuple[Point1, ...], Meta(max_length=4)]
    answer: Scalar


# --- contacts ---


class Submission(Message, frozen=True, kw_only=True):
    """One side of one contact; the show's two nullifiers are its own and that of the ticket.

    sent_day, ticket: what it takes up of its sender's quota.
    """

    issuer: Count
    ccm: Bytes32
    day: Day
    sent_day: Day
    ticket: Count
    show: Show


class Submissions(Message, frozen=True, kw_only=True):
    """What a proxy forwards: pooled, shuffled, without the boundaries of requests."""

    submissions: Annotated[tuple[Submission, ...], Meta(min_length=1, max_length=1024)]


class Partial(Message, frozen=True, kw_only=True):
    """The server's partial signature PS for (CCM, day, nullifier) as submitted.

    server: number of the server key it is under.
    """

    server: Count
    signature: Point1


class Refusal(Message, frozen=True, kw_only=True):
    """Why a submission is refused. slug: that of the error (`errors`)."""

    slug: Name
    text: Annotated[str, Meta(max_length=300)]


class Outcome(Message, frozen=True, kw_only=True):
    """The server's word on one submission: exactly one of a signature, a refusal, or neither (pending)."""

    partial: Partial | None = None
    refusal: Refusal | None = None


class Outcomes(Message, frozen=True, kw_only=True):
    """One outcome a submission, in their order."""

    outcomes: Annotated[tuple[Outcome, ...], Meta(min_length=1, max_length=1024)]


class ContactRecord(Message, frozen=True, kw_only=True):
    """A contact that both sides submitted: (CCM, day, N, PS, group, π). About 0.5 kB.

    server: number of the server key that PS is under.
    """

    ccm: Bytes32
    day: Day
    nullifier: Point1
    server: Count
    partial: Point1
    group: Name
    proof: Show


class Answer(Message, frozen=True, kw_only=True):
    """A proxy's answer to a submission: a record, a refusal, or neither (pending). Sent padded to ANSWER_SIZE."""

    record: ContactRecord | None = None
    refusal: Refusal | None = None


# --- declaration ---


class DeclaredContact(Message, frozen=True, kw_only=True):
    """A contact record with what only its two sides can know: the encounter's secret E, and the declarer's role."""

    record: ContactRecord
    secret: Bytes32
    role: Annotated[int, Meta(ge=0, le=255)]


class ReportBody(Message, frozen=True, kw_only=True):
    """What a diagnosed user tells the authority."""

    code: Annotated[str, Meta(max_length=32)]
    reply_key: Bytes32
    issuer: Count
    contacts: Annotated[tuple[DeclaredContact, ...], Meta(max_length=8192)]


class Report(Message, frozen=True, kw_only=True):
    """The exact bytes of a ReportBody and the one proof that all its nullifiers have one owner."""

    body: bytes
    ownership: Show


class SealedReport(Message, frozen=True, kw_only=True):
    """A padded report under HPKE; `parameters` is the hash of the parameters it was made by."""

    parameters: Bytes32
    sealed: bytes


class Receipt(Message, frozen=True, kw_only=True):
    """The authority's answer to a report. `reasons` has a byte a contact (declaration.Reason), empty if accepted."""

    accepted: bool
    problem: Annotated[str, Meta(max_length=32)] = ""
    text: Annotated[str, Meta(max_length=300)] = ""
    reasons: bytes = b""
    reference: Annotated[str, Meta(max_length=32)] = ""
    days: Annotated[tuple[Day, ...], Meta(max_length=64)] = ()


# --- chains: parameters and publications ---


class Link(Message, frozen=True, kw_only=True):
    """One link of a chain: the exact bytes of its body, and their Ed25519 signature."""

    body: bytes
    signature: Signature


class Head(Message, frozen=True, kw_only=True):
    """How far a chain goes: the number and hash of its last link (-1 and zeros for an empty chain)."""

    number: Annotated[int, Meta(ge=-1, le=2**31)]
    hash: Bytes32


class Heads(Message, frozen=True, kw_only=True):
    """The heads of the authority's two chains, and the number of the oldest publication that it still offers."""

    parameters: Head
    publications: Head
    oldest: Count = 0


class UserIssuer(Message, frozen=True, kw_only=True):
    """A dated issuer key of users: credentials under it are accepted on days from..until, both included."""

    number: Count
    from_day: Day
    until_day: Day
    key: IssuerPublic


class ServerKey(Message, frozen=True, kw_only=True):
    """A key of the server: it signs with the newest whose `from_time` has come.

    until_day: the last day that a contact record under it may have; None as long as it is not replaced.
    """

    number: Count
    from_time: Time
    until_day: Day | None = None
    key: Point2


class PublicationKey(Message, frozen=True, kw_only=True):
    """The Ed25519 key of the publications from number `first` on, up to the next key's."""

    first: Count
    key: Bytes32


class ProxyGroup(Message, frozen=True, kw_only=True):
    """A proxy group: its issuer key and where its proxies are.

    until_day: the last day that a contact record of it may have; None as long as its key is not replaced.
    """

    name: Name
    until_day: Day | None = None
    key: IssuerPublic
    proxies: Annotated[tuple[Url, ...], Meta(max_length=256)]


class Band(Message, frozen=True, kw_only=True):
    """Minutes at an attenuation below `below` dB (and in no earlier band) count `weight` times."""

    below: Annotated[float, Meta(ge=0, le=200)]
    weight: Annotated[float, Meta(ge=0, le=100)]


class Risk(Message, frozen=True, kw_only=True):
    """How exposures become a warning: minutes × nearness × infectiousness, summed per day.

    bands: nearness by attenuation, from near to far. Where there are none, nearness goes by estimated distance:
    within: up to so many metres a minute counts whole; falloff: beyond, it counts (within / metres) ** falloff, with 0
    not at all. minimum: an encounter with fewer minutes in the bands (whatever their weight), or fewer minutes heard
    where there are none, counts nothing; infectiousness: weight of each level, from level 1; warn_at: weighted minutes
    a day; gap: seconds after a sighting for which its attenuation is taken to last.
    """

    bands: Annotated[tuple[Band, ...], Meta(max_length=16)]
    within: Annotated[float, Meta(gt=0, le=100)] = 2.0
    falloff: Annotated[float, Meta(ge=0, le=8)] = 0.0
    minimum: Annotated[float, Meta(ge=0, le=1440)] = 0.0
    infectiousness: Annotated[tuple[Annotated[float, Meta(ge=0, le=100)], ...], Meta(min_length=1, max_length=8)]
    warn_at: Annotated[float, Meta(gt=0, le=1440)]
    gap: Annotated[float, Meta(gt=0, le=3600)]


class OnsetLevel(Message, frozen=True, kw_only=True):
    """Days from `first` to `last` after symptom onset (negative: before) have infectiousness level `level`."""

    first: Annotated[int, Meta(ge=-30, le=30)]
    last: Annotated[int, Meta(ge=-30, le=30)]
    level: Annotated[int, Meta(ge=1, le=8)]


class Limits(Message, frozen=True, kw_only=True):
    """What the authority fixes about time and size; see the field names' units.

    epoch: s; minimum: s between first and last sighting for a contact to count; first_seen_days: how many days back
    the server takes a nullifier it never saw; ask_days: how long an agent asks for the other side; retention_days;
    clock_tolerance: s; contacts: at most, in one report; floor: tokens of a day are padded to multiples of it;
    delay: s, the longest random wait before a submission; retry_first, retry_last: s, backoff while pending;
    submission_gap, declaration_gap: s, the stretch with one submission or declaration of an agent, real ones or
    dummies; 0: no dummies;
    submissions: at most, of one user and day.
    """

    epoch: Annotated[int, Meta(ge=10, le=86400)]
    minimum: Annotated[int, Meta(ge=0, le=86400)]
    first_seen_days: Annotated[int, Meta(ge=1, le=30)]
    ask_days: Annotated[int, Meta(ge=1, le=30)]
    retention_days: Annotated[int, Meta(ge=1, le=60)]
    clock_tolerance: Annotated[int, Meta(ge=0, le=3600)]
    contacts: Annotated[int, Meta(ge=1, le=8192)]
    floor: Annotated[int, Meta(ge=1, le=2**20)]
    delay: Annotated[int, Meta(ge=0, le=86400)]
    retry_first: Annotated[int, Meta(ge=1, le=86400)]
    retry_last: Annotated[int, Meta(ge=1, le=86400)]
    submission_gap: Annotated[int, Meta(ge=0, le=86400)] = 0
    declaration_gap: Annotated[int, Meta(ge=0, le=30 * 86400)] = 0
    submissions: Annotated[int, Meta(ge=1, le=2**20)] = 2000


class Parameters(Message, frozen=True, kw_only=True):
    """All that the authority fixes for everybody; a chain, each link signed by the key in the link before.

    roots: the certificates (X.509, DER) that agents verify TLS against; none: those that their system trusts.
    """

    number: Count
    previous: Bytes32
    issued_at: Time
    valid_until: Time
    authority: Annotated[str, Meta(min_length=1, max_length=100)]
    chain_key: Bytes32
    publication_keys: Annotated[tuple[PublicationKey, ...], Meta(min_length=1, max_length=64)]
    seal_key: Annotated[bytes, Meta(max_length=4096)]
    server_keys: Annotated[tuple[ServerKey, ...], Meta(min_length=1, max_length=64)]
    issuers: Annotated[tuple[UserIssuer, ...], Meta(min_length=1, max_length=64)]
    groups: Annotated[tuple[ProxyGroup, ...], Meta(min_length=1, max_length=64)]
    limits: Limits
    risk: Risk
    onset: Annotated[tuple[OnsetLevel, ...], Meta(min_length=1, max_length=16)]
    roots: Annotated[tuple[Certificate, ...], Meta(max_length=8)] = ()


class PublishedDay(Message, frozen=True, kw_only=True):
    """Tokens (16 bytes each, one after the other, sorted) of contacts of one day with one infectiousness level."""

    day: Day
    level: Annotated[int, Meta(ge=1, le=8)]
    tokens: bytes


class Publication(Message, frozen=True, kw_only=True):
    """One numbered batch of tokens."""

    number: Count
    previous: Bytes32
    issued_at: Time
    days: Annotated[tuple[PublishedDay, ...], Meta(max_length=512)]


# --- encoding ---

_DETAIL_SIZE = 200  # characters: the library repeats the names of fields it does not know, however long

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """The message as MessagePack."""
    return _encoder.encode(message)


def decode(kind: type[M], data: bytes) -> M:
    """A stranger's bytes as a message of this kind. Raises Malformed, naming the field."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        message: M = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        detail = _printable(str(error)[:_DETAIL_SIZE])
        text = f"this is not a {kind.__name__}: {detail}; the sender is broken or of another version"
        raise Malformed(text) from None
    return message


def _printable(text: str) -> str:
    """The text without what could forge lines of a log or steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def pad(data: bytes, size: int) -> bytes:
    """Data behind its length (4 bytes), then zeros up to `size`. Raises ValueError if it does not fit."""
    if len(data) + 4 > size:
        raise ValueError(f"{len(data)} bytes do not fit a padded size of {size}")
    return len(data).to_bytes(4, "big") + data + bytes(size - 4 - len(data))


def unpad(padded: bytes) -> bytes:
    """What `pad` was given. Raises Malformed where length or zeros are wrong."""
    size = int.from_bytes(padded[:4], "big")
    if len(padded) < 4 + size or any(padded[4 + size :]):
        raise Malformed("the padding of this message is wrong; it was cut or altered")
    return padded[4 : 4 + size]
