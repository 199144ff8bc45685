"""A small world of SPOT, the same for the same seed: authority, server, proxy groups, users and their contacts."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import (
    chain,
    contact,
    credential,
    curve,
    declaration,
    encounter,
    hashing,
    messages,
    parameters,
    publication,
)
from protocol.credential import Credential, Holder, IssuerKey, IssuerSecret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protocol.curve import G2, Curve
    from protocol.messages import Publication
    from protocol.publication import PublishedToken

DAY = 20_000
"""The UTC day of the contacts."""

ISSUER, OTHER_ISSUER = 1, 2
"""The numbers of the two dated issuers of users."""

SERVER, OTHER_SERVER = 1, 2
"""The numbers of the server's two keys."""

TICKET = contact.Ticket(DAY, 7)
"""What the submissions take up of their senders' quotas, all the same."""

NOW = DAY * encounter.SECONDS_A_DAY


def found_in(batch: Publication, tokens: Iterable[bytes]) -> list[PublishedToken]:
    """Which of these tokens a publication has, on whatever day."""
    return list(publication.match(batch, {day.day: sorted(tokens) for day in batch.days}))


class Source:
    """Random bytes from a seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._drawn = 0

    def __call__(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_256(self._seed + self._drawn.to_bytes(8, "big")).digest(size)


@dataclass(frozen=True)
class Issuer:
    """An issuer of credentials, whole."""

    secret: IssuerSecret
    public: messages.IssuerPublic
    key: IssuerKey


@dataclass(frozen=True)
class Member:
    """Somebody with a credential, and how it was come by."""

    nonce: bytes
    request: messages.JoinRequest
    issued: messages.Issued
    credential: Credential


@dataclass(frozen=True)
class Contact:
    """One side of one contact, from submission to record."""

    submission: messages.Submission
    partial: messages.Partial
    record: messages.ContactRecord
    declared: messages.DeclaredContact


def make_issuer(maker: Curve, random: Source, holder: Holder) -> Issuer:
    """A fresh issuer."""
    secret, public = credential.new_issuer(maker, random, holder)
    return Issuer(secret, public, credential.read_issuer(maker, holder, public))


def make_member(maker: Curve, random: Source, issuer: Issuer) -> Member:
    """A fresh member of this issuer."""
    secret, nonce = credential.new_secret(random), random(32)
    request = credential.join(maker, random, secret, issuer.key, nonce)
    issued = credential.issue(maker, random, issuer.secret, issuer.key, request, nonce)
    return Member(nonce, request, issued, credential.accept(maker, secret, issuer.key, issued))


def make_parameters(
    random: Source,
    chain_key: Ed25519PrivateKey,
    publication_key: Ed25519PrivateKey,
    seal_key: bytes,
    server_keys: Sequence[bytes],
    issuers: Sequence[messages.IssuerPublic],
    groups: dict[str, messages.IssuerPublic],
) -> messages.Parameters:
    """Parameters as an authority begins with; the issuers' numbers count from 1."""
    return messages.Parameters(
        number=0,
        previous=bytes(32),
        issued_at=NOW,
        valid_until=NOW + 30 * encounter.SECONDS_A_DAY,
        authority="Example authority",
        chain_key=chain_key.public_key().public_bytes_raw(),
        publication_keys=(messages.PublicationKey(first=0, key=publication_key.public_key().public_bytes_raw()),),
        seal_key=seal_key,
        server_keys=tuple(
            messages.ServerKey(number=number, from_time=NOW + number, key=key)
            for number, key in enumerate(server_keys, SERVER)
        ),
        issuers=tuple(
            messages.UserIssuer(number=number, from_day=DAY - 10, until_day=DAY + 30, key=key)
            for number, key in enumerate(issuers, ISSUER)
        ),
        groups=tuple(
            messages.ProxyGroup(name=name, key=key, proxies=(f"https://{name}.example",))
            for name, key in groups.items()
        ),
        limits=messages.Limits(
            epoch=900,
            minimum=60,
            first_seen_days=3,
            ask_days=4,
            retention_days=14,
            clock_tolerance=180,
            contacts=1000,
            floor=16,
            delay=600,
            retry_first=3600,
            retry_last=43200,
            submissions=2000,
        ),
        risk=messages.Risk(
            bands=(messages.Band(below=55.0, weight=1.5), messages.Band(below=70.0, weight=0.5)),
            within=2.0,
            falloff=2.0,
            minimum=5.0,
            infectiousness=(1.0, 2.0),
            warn_at=15.0,
            gap=300.0,
        ),
        onset=(messages.OnsetLevel(first=-2, last=2, level=2), messages.OnsetLevel(first=3, last=9, level=1)),
        roots=(b"a root certificate",),
    )


class World:
    """Everybody and everything: users alice and bob, proxies of the groups north and south, one report of alice's."""

    def __init__(self, maker: Curve, seed: str = "world") -> None:
        self.curve = maker
        self.random = random = Source(seed)
        self.users = make_issuer(maker, random, Holder.USER)
        self.other_users = make_issuer(maker, random, Holder.USER)
        self.groups = {name: make_issuer(maker, random, Holder.PROXY) for name in ("north", "south")}
        self.alice = make_member(maker, random, self.users)
        self.bob = make_member(maker, random, self.users)
        self.proxies = {name: make_member(maker, random, group) for name, group in self.groups.items()}
        self.removed = make_member(maker, random, self.groups["north"])
        self.server, self.server_key = contact.new_server_key(maker, random)
        self.other_server, other_server_key = contact.new_server_key(maker, random)
        self.chain_key = Ed25519PrivateKey.from_private_bytes(random(32))
        self.publication_key = Ed25519PrivateKey.from_private_bytes(random(32))
        self.seal = declaration.read_seal_secret(random(96))
        self.parameters = make_parameters(
            random,
            self.chain_key,
            self.publication_key,
            self.seal.public,
            (self.server_key, other_server_key),
            (self.users.public, self.other_users.public),
            {name: group.public for name, group in self.groups.items()},
        )
        self.genesis = parameters.sign(self.chain_key, self.parameters)
        self.parameters_hash = chain.hash_of(hashing.PARAMETERS, self.genesis)
        self.keys = parameters.Keys(
            contact.SignerKeys(
                {
                    SERVER: maker.decode_g2(self.server_key, "the server's key"),
                    OTHER_SERVER: maker.decode_g2(other_server_key, "the server's key"),
                },
                {name: group.key for name, group in self.groups.items()},
            ),
            {ISSUER: self.users.key, OTHER_ISSUER: self.other_users.key},
        )
        self.secrets = tuple(random(32) for _ in range(3))
        self.contacts = tuple(self.contact(self.alice, secret) for secret in self.secrets)
        self.others = tuple(self.contact(self.bob, secret, role=1) for secret in self.secrets[:2])
        self.by_removed = self.contact(self.alice, random(32), proxy=self.removed)
        self.body = self.body_of(*(one.declared for one in self.contacts[:2]))
        self.report = self.report_of(self.body)

    @property
    def rules(self) -> declaration.Rules:
        """What the authority checks a report against."""
        return declaration.Rules(self.keys.signers, {"north": [self.removed_opening]}, DAY - 14, DAY, 100)

    @functools.cached_property
    def removed_opening(self) -> G2:
        """The opening key of the removed proxy."""
        opening = self.removed.request.opening
        assert opening is not None
        return self.curve.decode_g2(opening, "an opening key")

    def contact(
        self,
        user: Member,
        secret: bytes,
        *,
        day: int = DAY,
        role: int = 0,
        group: str = "north",
        proxy: Member | None = None,
        server: int = SERVER,
    ) -> Contact:
        """The user's side of the contact with this secret E, signed by the server and a proxy of the group."""
        ccm = encounter.ccm_of(secret)
        submission = contact.submit(self.curve, self.random, user.credential, self.users.key, ISSUER, ccm, day, TICKET)
        nullifier = contact.nullifier_of(submission)
        secret_key = self.server if server == SERVER else self.other_server
        signature = contact.sign_partially(self.curve, secret_key, ccm, day, nullifier)
        partial = messages.Partial(server=server, signature=signature)
        by = proxy or self.proxies[group]
        record = contact.extend(self.random, by.credential, group, self.groups[group].key, submission, partial)
        declared = messages.DeclaredContact(record=record, secret=secret, role=role)
        return Contact(submission, partial, record, declared)

    def body_of(self, *contacts: messages.DeclaredContact) -> messages.ReportBody:
        """A report of these contacts under a fresh code and reply key."""
        code = declaration.new_code(self.random)
        return messages.ReportBody(code=code, reply_key=self.random(32), issuer=ISSUER, contacts=contacts)

    def report_of(self, body: messages.ReportBody, by: Member | None = None) -> messages.Report:
        """The body with a proof of ownership, alice's unless told."""
        own = (by or self.alice).credential
        return declaration.make_report(self.curve, self.random, own, self.users.key, body, self.parameters_hash)

    def sealed(self, report: messages.Report) -> messages.SealedReport:
        """The report as it travels."""
        return declaration.seal(report, self.seal.public, self.parameters_hash)


@functools.cache
def world_of(maker: str) -> World:
    """The world of the curve maker of this name, built once a process."""
    return World(curve.open_curve(maker))
