"""The authority's parameters: a chain from a genesis whose fingerprint the user confirms, and the keys they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import chain, credential, hashing, messages
from protocol.contact import SignerKeys
from protocol.credential import Holder, IssuerKey
from protocol.errors import KeyChanged, Malformed, NotMine, Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from protocol.curve import Curve
    from protocol.messages import Head, Link, Parameters, ServerKey


@dataclass(frozen=True, slots=True)
class Trusted:
    """Parameters whose chain was followed up to `head`."""

    head: Head
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in the parameters, decoded and their proofs checked; issuers of users by number."""

    signers: SignerKeys
    issuers: dict[int, IssuerKey]

    def issuer(self, number: int) -> IssuerKey:
        """The user issuer of this number. Raises NotMine where there is none."""
        if number not in self.issuers:
            raise NotMine("this credential was issued under a key that is no longer in use; join again")
        return self.issuers[number]


def sign(key: Ed25519PrivateKey, parameters: Parameters) -> Link:
    """The link of these parameters, signed with the chain key in the parameters before (the genesis: in itself)."""
    return chain.sign(key, hashing.PARAMETERS, messages.encode(parameters))


def begin(link: Link) -> Trusted:
    """A genesis; whether it is the right one, only the user's look at its fingerprint can tell.

    Raises Malformed or KeyChanged.
    """
    return _continue(chain.EMPTY, None, link)


def advance(trusted: Trusted, link: Link) -> Trusted:
    """The parameters after these. Raises Malformed or KeyChanged."""
    return _continue(trusted.head, trusted.parameters.chain_key, link)


def _continue(head: Head, key: bytes | None, link: Link) -> Trusted:
    parameters = messages.decode(messages.Parameters, link.body)
    chain.check_signature(key or parameters.chain_key, hashing.PARAMETERS, link)
    _check_sense(parameters)
    after = chain.follow(head, hashing.PARAMETERS, link, parameters.number, parameters.previous)
    return Trusted(after, parameters)


def _check_sense(parameters: Parameters) -> None:
    names = [group.name for group in parameters.groups]
    numbers = [issuer.number for issuer in parameters.issuers]
    edges = [band.below for band in parameters.risk.bands]
    if len(set(names)) < len(names) or len(set(numbers)) < len(numbers):
        raise Malformed("two groups or issuers of the parameters share a name; the authority must mend them")
    servers = [(key.number, key.from_time) for key in parameters.server_keys]
    for rising in (*zip(*servers, strict=True), [key.first for key in parameters.publication_keys]):
        if sorted(set(rising)) != list(rising):
            raise Malformed("the keys in the parameters are not in rising order; the authority must mend them")
    if sorted(set(edges)) != edges:
        raise Malformed("the attenuation bands of the parameters are not in rising order; the authority must mend them")
    if max(level.level for level in parameters.onset) > len(parameters.risk.infectiousness):
        raise Malformed("an infectiousness level of the parameters has no weight; the authority must mend them")

    spans = [(one.from_day, one.until_day) for one in parameters.issuers]
    spans += [(level.first, level.last) for level in parameters.onset]
    spans += [(parameters.limits.retry_first, parameters.limits.retry_last)]
    spans += [(parameters.issued_at, parameters.valid_until)]
    if any(first > last for first, last in spans):
        raise Malformed("a span in the parameters ends before it begins; the authority must mend them")
    _check_keys_differ(parameters)


def _check_keys_differ(parameters: Parameters) -> None:
    # A signature does not say its key's number: under a second number or name it would outlive the end of the first.
    servers = [one.key for one in parameters.server_keys]
    issuers = [one.key.x + one.key.y for one in parameters.issuers]
    groups = [one.key.x + one.key.y for one in parameters.groups]
    if any(len(set(keys)) < len(keys) for keys in (servers, issuers, groups)):
        raise Malformed("two servers, issuers or groups of the parameters have the same key; mend them")


def check_validity(parameters: Parameters, at: float) -> None:
    """Raises KeyChanged where the parameters have run out at this time (seconds since 1970)."""
    if at > parameters.valid_until:
        raise KeyChanged("the authority's parameters have run out; sync again, and ask the authority if this stays")


def read_keys(curve: Curve, parameters: Parameters) -> Keys:
    """Decode and check every key. Raises Malformed or Refused."""
    groups = {group.name: credential.read_issuer(curve, Holder.PROXY, group.key) for group in parameters.groups}
    issuers = {issuer.number: credential.read_issuer(curve, Holder.USER, issuer.key) for issuer in parameters.issuers}
    servers = {one.number: curve.decode_g2(one.key, "the server's key") for one in parameters.server_keys}
    until: dict[int | str, int | None] = {one.number: one.until_day for one in parameters.server_keys}
    until |= {one.name: one.until_day for one in parameters.groups}
    ends = {name: day for name, day in until.items() if day is not None}
    return Keys(SignerKeys(servers, groups, ends), issuers)


def server_key_at(parameters: Parameters, at: float) -> ServerKey:
    """The key that the server signs with at this time: the newest that is in use by then; the first before that."""
    begun = [key for key in parameters.server_keys if key.from_time <= at]
    return begun[-1] if begun else parameters.server_keys[0]


def check_issuer_day(parameters: Parameters, number: int, day: int) -> None:
    """Raises Refused unless credentials of this issuer may be used on this day, NotMine for an unknown issuer."""
    for issuer in parameters.issuers:
        if issuer.number == number:
            if not issuer.from_day <= day <= issuer.until_day:
                raise Refused("the period of this credential is over or has not begun; join again")
            return
    raise NotMine("this credential was issued under a key that is no longer in use; join again")


def proxy_urls(parameters: Parameters) -> set[str]:
    """Where the proxies of all groups are."""
    return {url for group in parameters.groups for url in group.proxies}


def check_ticket(parameters: Parameters, number: int) -> None:
    """Whether a submission's ticket is one of those that a user has a day. Raises NotMine."""
    if number >= parameters.limits.submissions:
        raise NotMine("this submission is beyond those that a user may make a day; fetch the parameters anew")


def infectiousness_level(parameters: Parameters, onset: int, day: int) -> int:
    """The level of contacts on `day` with somebody whose symptoms began on day `onset`; 0: not infectious."""
    for span in parameters.onset:
        if span.first <= day - onset <= span.last:
            return span.level
    return 0
