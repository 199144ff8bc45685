"""A diagnosed user's report: one proof of ownership, sealed to the authority, and the authority's checks.

(*Sig_Verify, CCM_Verify*.) The seal is HPKE (RFC 9180) with the hybrid KEM of ML-KEM-768 and X25519.
"""

from __future__ import annotations

import base64
import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol import batch, contact, credential, encounter, hashing, messages
from protocol.credential import Purpose, Statement
from protocol.errors import Malformed, NotMine, Refused
from protocol.randomness import WEIGHT_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from protocol.batch import Claim
    from protocol.contact import SignerKeys
    from protocol.credential import Credential, IssuerKey, Randomised
    from protocol.curve import G1, G2, Curve
    from protocol.messages import ContactRecord, DeclaredContact, Receipt, Report, ReportBody, SealedReport
    from protocol.randomness import Random

N = TypeVar("N", int, str)

CODE_BYTES = 10  # 80 random bits: 16 base32 characters
MOST_UNSIGNED = 16  # signatures that do not hold, named one by one: an honest agent's records have none
_CONTACT_SIZE = 512  # bytes at most that a contact takes in a report; what else is in one takes less than another such
_MLKEM_PUBLIC = 1184
_MLKEM_SEED = 64
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_SEAL_OVERHEAD = hpke.KEM.MLKEM768_X25519.enc_length() + 16
_NONCE = 12
_RECEIPT_OVERHEAD = _NONCE + 16


CHECKING = messages.Receipt(
    accepted=False, problem="checking", text="the authority is still checking this report; send it again later"
)
"""The receipt of a report whose checks are not over when its answer is due: the same report gets another one later."""


class Reason(enum.IntEnum):
    """Why a declared contact is refused; one byte a contact in the receipt."""

    FINE = 0
    MALFORMED = 1
    CCM = 2
    ROLE = 3
    DAY = 4
    DUPLICATE_CCM = 5
    DUPLICATE_NULLIFIER = 6
    REPORTED = 7
    GROUP = 8
    PARTIAL = 9
    PROOF = 10
    REMOVED = 11
    SERVER = 12
    DOUBTFUL = 13

    @property
    def text(self) -> str:
        """The reason in words."""
        return _REASONS[self]


_REASONS = {
    Reason.FINE: "nothing is wrong with it",
    Reason.MALFORMED: "a part of it is not a group element or scalar",
    Reason.CCM: "its CCM is not that of its encounter secret",
    Reason.ROLE: "its role is neither 0 nor 1",
    Reason.DAY: "its day is in the future or too long ago",
    Reason.DUPLICATE_CCM: "its CCM stands in the list twice",
    Reason.DUPLICATE_NULLIFIER: "its nullifier stands in the list twice",
    Reason.REPORTED: "it was reported before",
    Reason.GROUP: "its proxy group is unknown, or had another key by its day",
    Reason.PARTIAL: "the server did not sign it so",
    Reason.PROOF: "no proxy of its group signed it so",
    Reason.REMOVED: "the proxy that signed it was removed from its group",
    Reason.SERVER: "the server's key it names is unknown, or was replaced before its day",
    Reason.DOUBTFUL: "it stands beside so many that are not signed that it was not looked at by itself",
}


# --- report codes ---


def new_code(random: Random) -> str:
    """A report code: 80 random bits as 16 base32 characters in groups of four."""
    text = base64.b32encode(random(CODE_BYTES)).decode()
    return "-".join(text[index : index + 4] for index in range(0, len(text), 4))


def normal_code(typed: str) -> str:
    """A typed code without the spaces, dashes and mistakes people make (0 for O, 1 for I, 8 for B).

    Raises Malformed unless 16 base32 characters are left.
    """
    text = "".join(typed.upper().split()).replace("-", "").translate(str.maketrans("018", "OIB"))
    if len(text) != CODE_BYTES * 8 // 5 or not set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"):
        raise Malformed("a code is 16 letters and digits, such as ABCD-EFGH-IJKL-2345; check it and type it again")
    return text


# --- sealing ---


@dataclass(frozen=True, slots=True)
class SealSecret:
    """The authority's decryption key and its public bytes (ML-KEM-768 ‖ X25519, 1216 bytes)."""

    private: hpke.MLKEM768X25519PrivateKey
    public: bytes

    def __repr__(self) -> str:
        return "<SealSecret>"


def read_seal_secret(seed: bytes) -> SealSecret:
    """The key of 96 seed bytes (ML-KEM-768 ‖ X25519). Raises ValueError on another size."""
    if len(seed) != _MLKEM_SEED + 32:
        raise ValueError("a seal key is made from 96 bytes")
    lattice = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED])
    curve = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED:])
    public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return SealSecret(hpke.MLKEM768X25519PrivateKey(lattice, curve), public)


def _read_seal_key(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    try:
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]),
        )
    except ValueError:
        raise _no_seal_key() from None


def _no_seal_key() -> Malformed:
    return Malformed("the authority's sealing key is not one; sync the parameters again")


def _info(seal_key: bytes, parameters: bytes) -> bytes:
    return hashing.joined(hashing.REPORT, seal_key, parameters)


def size_class(contacts: int) -> int:
    """The size that a report of so many contacts is padded to."""
    return next(
        (size for size in messages.REPORT_CLASSES if contacts < size // _CONTACT_SIZE), messages.REPORT_CLASSES[-1]
    )


def dummy(random: Random) -> tuple[Report, bytes]:
    """A report that asks for nothing, as its empty code says, and its reply key; sealed, it looks like any other."""
    reply_key, zeros = random(32), bytes(48)
    body = messages.ReportBody(code="", reply_key=reply_key, issuer=0, contacts=())
    nothing = messages.Show(a=zeros, b=zeros, d=zeros, k=zeros, nullifiers=(), commitments=(), answer=bytes(32))
    return messages.Report(body=messages.encode(body), ownership=nothing), reply_key


def seal(report: Report, seal_key: bytes, parameters: bytes, least: int = 0) -> SealedReport:
    """Pad the report to its size class, or a larger one of at least so many bytes, and seal it.

    parameters: the hash of their link. Raises Refused where it is larger than the largest class, Malformed where the
    key is none.
    """
    data = messages.encode(report)
    for size in messages.REPORT_CLASSES:
        if len(data) + 4 <= size and least <= size:
            padded = messages.pad(data, size)
            try:
                sealed = _SUITE.encrypt(padded, _read_seal_key(seal_key), info=_info(seal_key, parameters))
            except ValueError:  # X25519 with a point of low order
                raise _no_seal_key() from None
            return messages.SealedReport(parameters=parameters, sealed=sealed)
    raise Refused("these are too many contacts for one report; declare fewer days")


def unseal(secret: SealSecret, sealed: SealedReport) -> Report:
    """Open a sealed report. Raises NotMine where it is for another key or was altered, Malformed."""
    try:
        padded = _SUITE.decrypt(sealed.sealed, secret.private, info=_info(secret.public, sealed.parameters))
    except (InvalidTag, ValueError):
        raise NotMine("this report is sealed for another key or was altered; sync, then declare again") from None
    _check_class(len(padded))
    return messages.decode(messages.Report, messages.unpad(padded))


def _check_class(size: int) -> None:
    if size not in messages.REPORT_CLASSES:
        raise Malformed("a report is padded to one of the size classes; the sender is broken")


def receipt_size(sealed: SealedReport) -> int:
    """The size of the sealed answer to this sealed report, in bytes, whatever it says.

    Raises Malformed where the report has none of the sizes that reports have.
    """
    size = len(sealed.sealed) - _SEAL_OVERHEAD
    _check_class(size)
    return size // messages.RECEIPT_SHARE + _RECEIPT_OVERHEAD


def seal_receipt(random: Random, receipt: Receipt, reply_key: bytes, size: int) -> bytes:
    """The answer under the report's reply key, `size` bytes.

    The nonce is drawn: one key seals CHECKING and the outcome, or what an authority put back to an older state says.
    """
    padded = messages.pad(messages.encode(receipt), size - _RECEIPT_OVERHEAD)
    nonce = random(_NONCE)
    return nonce + ChaCha20Poly1305(reply_key).encrypt(nonce, padded, hashing.REPORT)


def open_receipt(sealed: bytes, reply_key: bytes) -> Receipt:
    """The authority's answer. Raises Malformed where it was cut, altered or made by somebody else."""
    try:
        padded = ChaCha20Poly1305(reply_key).decrypt(sealed[:_NONCE], sealed[_NONCE:], hashing.REPORT)
    except (InvalidTag, ValueError):  # ValueError: not even a nonce
        raise Malformed("the answer is not the authority's; declare again, another proxy will be asked") from None
    return messages.decode(messages.Receipt, messages.unpad(padded))


# --- ownership ---


def digest_of(body: bytes, parameters: bytes) -> bytes:
    """The digest of everything in a report, 32 bytes: what ownership is proven for, and what names the report."""
    return hashing.digest(hashing.REPORT, parameters, body)


def _weights(issuer: IssuerKey, first: tuple[bytes, bytes, bytes], digest: bytes, count: int) -> list[int]:
    """ρi, 128 bits each: fixed by everything in the report and by A, B, D."""
    mask = (1 << WEIGHT_BITS) - 1
    return [
        hashing.to_scalar(hashing.OWN_WEIGHT, issuer.encoded, *first, digest, hashing.number(index)) & mask
        for index in range(count)
    ]


def _combined_base(curve: Curve, contacts: Sequence[DeclaredContact], weights: Sequence[int]) -> G1:
    return curve.sum_of_products([contact.nullifier_base(curve, one.record.ccm) for one in contacts], weights)


def _ownership_statement(issuer: IssuerKey, base: G1, digest: bytes) -> Statement:
    return Statement(Purpose.OWNERSHIP, issuer, (base,), digest)


def make_report(
    curve: Curve, random: Random, own: Credential, issuer: IssuerKey, body: ReportBody, parameters: bytes
) -> Report:
    """The report with one proof that one registered user owns every nullifier in it. Raises Refused on no contacts."""
    if not body.contacts:
        raise Refused("there is no contact to declare; choose other days")
    data = messages.encode(body)
    digest = digest_of(data, parameters)
    first: Randomised = credential.randomise(random, own)
    base = _combined_base(curve, body.contacts, _weights(issuer, first.encoded, digest, len(body.contacts)))
    shown = credential.show(random, own, _ownership_statement(issuer, base, digest), first)
    return messages.Report(body=data, ownership=shown)


def check_ownership(
    curve: Curve,
    random: Random,
    issuer: IssuerKey,
    contacts: Sequence[DeclaredContact],
    digest: bytes,
    ownership: messages.Show,
) -> None:
    """Check that one registered user owns every nullifier. Raises Malformed or Refused.

    Duplicate CCMs or nullifiers are refused here too: with two equal bases the sum says less.
    """
    if not contacts:
        raise Refused("a report without contacts proves nothing")
    if any(len({getattr(one.record, part) for one in contacts}) < len(contacts) for part in ("ccm", "nullifier")):
        raise Refused("a CCM or nullifier stands in the list twice; declare each contact once")
    weights = _weights(issuer, (ownership.a, ownership.b, ownership.d), digest, len(contacts))
    nullifiers = [curve.decode_g1(one.record.nullifier, "a record's nullifier") for one in contacts]
    base = _combined_base(curve, contacts, weights)
    combined = curve.sum_of_products(nullifiers, weights)
    if base.is_identity or combined.is_identity:
        raise Malformed("the combined nullifier is the identity; the sender is broken or hostile")
    if ownership.nullifiers != (combined.encode(),):
        raise Refused("these contact records do not all belong to the one who declares them")
    credential.verify(curve, random, _ownership_statement(issuer, base, digest), ownership)


# --- the authority's checks ---


@dataclass(frozen=True, slots=True)
class Rules:
    """What a report is checked against.

    removed: opening keys T~ of removed proxies by group; first_day..last_day: the days a contact may have;
    most: how many contacts a report may have.
    """

    keys: SignerKeys
    removed: Mapping[str, Sequence[G2]]
    first_day: int
    last_day: int
    most: int


def check_contacts(
    curve: Curve, random: Random, rules: Rules, contacts: Sequence[DeclaredContact], reported: Collection[bytes]
) -> list[Reason]:
    """A reason for each contact, FINE for the good ones; `reported`: nullifiers of earlier reports.

    Raises Refused where there are none, or too many.
    """
    reasons = plain_reasons(rules, contacts, reported)
    fine = [index for index, reason in enumerate(reasons) if reason is Reason.FINE]
    found = signature_reasons(curve, random, rules, [contacts[index].record for index in fine])
    for index, reason in zip(fine, found, strict=True):
        reasons[index] = reason
    return reasons


def plain_reasons(rules: Rules, contacts: Sequence[DeclaredContact], reported: Collection[bytes]) -> list[Reason]:
    """What can be said of each contact without its signatures. Raises Refused where there are none, or too many."""
    if not 0 < len(contacts) <= rules.most:
        raise Refused(f"a report has 1 to {rules.most} contacts; declare fewer days")
    ccms = Counter(one.record.ccm for one in contacts)
    nullifiers = Counter(one.record.nullifier for one in contacts)
    return [_plain_reason(rules, one, ccms, nullifiers, reported) for one in contacts]


def signature_reasons(curve: Curve, random: Random, rules: Rules, records: Sequence[ContactRecord]) -> list[Reason]:
    """What their signatures say of records of known groups; each record is judged by itself, so a list may be cut.

    Cheap first: whether a removed proxy signed, two pairings a record and proxy, is asked of good signatures only.
    """
    reasons = [Reason.FINE] * len(records)
    claims: list[Claim] = []
    owners: list[tuple[int, Reason]] = []
    for index, record in enumerate(records):
        try:
            claims += contact.record_claims(curve, rules.keys, record)
        except Malformed:
            reasons[index] = Reason.MALFORMED
        else:
            owners += ((index, Reason.PARTIAL), (index, Reason.PROOF))
    bad, doubtful = batch.sift(curve, random, claims, MOST_UNSIGNED) if claims else ([], [])
    for claim in reversed(bad):
        index, reason = owners[claim]
        reasons[index] = reason
    for claim in doubtful:
        index, _ = owners[claim]
        reasons[index] = reasons[index] or Reason.DOUBTFUL
    for index, record in enumerate(records):
        if reasons[index] is Reason.FINE and _removed(curve, rules, record):
            reasons[index] = Reason.REMOVED
    return reasons


def _plain_reason(
    rules: Rules,
    one: DeclaredContact,
    ccms: Counter[bytes],
    nullifiers: Counter[bytes],
    reported: Collection[bytes],
) -> Reason:
    record = one.record
    findings = (
        (record.ccm != encounter.ccm_of(one.secret), Reason.CCM),
        (one.role not in (0, 1), Reason.ROLE),
        (not rules.first_day <= record.day <= rules.last_day, Reason.DAY),
        (ccms[record.ccm] > 1, Reason.DUPLICATE_CCM),
        (nullifiers[record.nullifier] > 1, Reason.DUPLICATE_NULLIFIER),
        (record.nullifier in reported, Reason.REPORTED),
        (not _known(rules.keys.group, record.group, record.day), Reason.GROUP),
        (not _known(rules.keys.server, record.server, record.day), Reason.SERVER),
    )
    return next((reason for found, reason in findings if found), Reason.FINE)


def _known(key: Callable[[N, int], object], name: N, day: int) -> bool:
    try:
        key(name, day)
    except (NotMine, Refused):
        return False
    return True


def _removed(curve: Curve, rules: Rules, record: ContactRecord) -> bool:
    openings = rules.removed.get(record.group)
    if not openings:  # the usual case, which then costs no second decoding
        return False
    return credential.opens(curve, rules.keys.group(record.group, record.day), record.proof, openings) is not None
