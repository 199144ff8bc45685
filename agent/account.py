"""What joining gives a device: an authority it trusts from the genesis on, and a credential from it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent import transport
from agent.clock import day_text
from protocol import chain, credential, encounter, hashing, messages, parameters, publication
from protocol.curve import Curve, decode_scalar, encode_scalar
from protocol.errors import KeyChanged, Misuse, Moved, NotJoined, NotMine, Refused

if TYPE_CHECKING:
    import random as chances

    from agent.store import Store
    from protocol.credential import Credential
    from protocol.messages import Head, Parameters
    from protocol.parameters import Keys, Trusted


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, sealed, of joining. issued is None while the authority's answer is outstanding.

    renewed: credentials under later issuers, by their number.
    """

    url: str
    genesis: bytes
    issuer: int
    secret: bytes
    invitation: str
    request: bytes
    issued: messages.Issued | None = None
    renewed: dict[int, messages.Issued] = {}

    def __repr__(self) -> str:
        return "<Membership>"


@dataclass(frozen=True, slots=True)
class Account:
    """A joined device: credentials by the number of their issuer, trusted parameters, decoded keys."""

    url: str
    genesis: bytes
    credentials: dict[int, Credential]
    trusted: Trusted
    keys: Keys

    @property
    def issuer(self) -> int:
        """The number of the latest issuer that this device has a credential of."""
        return max(self.credentials)

    @property
    def credential(self) -> Credential:
        """The latest credential."""
        return self.credentials[self.issuer]

    def can_submit(self, day: int) -> bool:
        """Whether there is a credential to submit contacts of this day under."""
        return bool(self._issuers_of(day))

    def issuer_of(self, day: int) -> int:
        """The number of the issuer to submit contacts of this day under. Raises NotJoined.

        The first whose period holds the day: all members do so, so that nobody is told by having renewed early.
        """
        own = self._issuers_of(day)
        if not own:
            raise NotJoined("this device has no credential for that day (yet); it renews by itself: spot sync")
        return own[0]

    def _issuers_of(self, day: int) -> list[int]:
        holding = [one.number for one in self.parameters.issuers if one.from_day <= day <= one.until_day]
        return [number for number in sorted(holding) if number in self.credentials]

    @property
    def parameters(self) -> Parameters:
        """The parameters now in force."""
        return self.trusted.parameters


MEMBERSHIP = "membership"
PARAMETERS = "parameters"  # the latest link followed, whole
CHAIN = "parameters"  # in the store's table of links
MOVED = "moved"  # since when all this goes on on another device, seconds since 1970


def check_not_moved(store: Store) -> None:
    """Raises Moved where the agent of this device goes on on another one."""
    since = store.get(MOVED, float)
    if since is not None:
        raise Moved(
            f"this agent moved to another device on {day_text(encounter.day_of(since))} and is retired here; go on "
            "there, and delete what is left here with: spot leave (if it was imported nowhere: spot export --undo)"
        )


def open_account(curve: Curve, store: Store) -> Account:
    """The account kept in the store. Raises NotJoined."""
    membership = store.get(MEMBERSHIP, Membership)
    if membership is None or membership.issued is None:
        raise NotJoined(f"joining was not finished in {store.folder}; run: spot join URL --invite CODE")
    trusted = read_trusted(store)
    secret = decode_scalar(membership.secret, "the stored secret key")
    own = {
        number: credential.Credential(
            secret,
            curve.decode_g1(issued.s1, "the stored credential"),
            curve.decode_g1(issued.s2, "the stored credential"),
        )
        for number, issued in {membership.issuer: membership.issued, **membership.renewed}.items()
    }
    keys = parameters.read_keys(curve, trusted.parameters)
    return Account(membership.url, membership.genesis, own, trusted, keys)


def read_trusted(store: Store) -> Trusted:
    """The parameters last followed. Raises NotJoined."""
    link = store.get(PARAMETERS, messages.Link)
    if link is None:
        raise NotJoined(f"there are no parameters in {store.folder}; run: spot join URL --invite CODE")
    return trusted_from(link)


def trusted_from(link: messages.Link) -> Trusted:
    """A link that was followed before, taken up again."""
    body = messages.decode(messages.Parameters, link.body)
    head = messages.Head(number=body.number, hash=chain.hash_of(hashing.PARAMETERS, link))
    return parameters.Trusted(head, body)


def keep_trusted(store: Store, trusted: Trusted, link: messages.Link) -> None:
    """Keep parameters that were followed."""
    store.keep_link(CHAIN, trusted.head.number, trusted.head.hash)
    store.put(PARAMETERS, link)


class Member:
    """A device's account with the parameters now in force, as another process of its agent may have fetched them."""

    def __init__(self, curve: Curve, store: Store) -> None:
        self._curve = curve
        self._store = store
        self._account: Account | None = None
        self._membership: Membership | None = None

    @property
    def account(self) -> Account:
        """The account. Raises NotJoined, Moved."""
        check_not_moved(self._store)
        trusted, membership = read_trusted(self._store), self._store.get(MEMBERSHIP, Membership)
        if self._account is None or (self._account.trusted, self._membership) != (trusted, membership):
            self._account, self._membership = open_account(self._curve, self._store), membership
        return self._account

    def account_at(self, now: float) -> Account:
        """The account, to prove or seal by at this time (seconds since 1970). Raises NotJoined, Moved, KeyChanged.

        KeyChanged: the parameters have run out. Their keys may be stolen since, which withholding new ones would hide.
        """
        parameters.check_validity(self.account.parameters, now)
        return self.account


async def fetch_authority(url: str) -> list[tuple[Trusted, messages.Link]]:
    """Follow an authority's parameters from the genesis to now. Raises Unreachable, Malformed, KeyChanged.

    Certificates are not looked at: what they are to be verified against is in the parameters, and whether those are the
    authority's, the user's look at the fingerprint tells.
    """
    heads = messages.decode(messages.Heads, await transport.get(url, messages.HEADS_PATH, transport.UNCHECKED))
    followed: list[tuple[Trusted, messages.Link]] = []
    for number in range(heads.parameters.number + 1):
        data = await transport.get(url, messages.PARAMETERS_PATH.format(number=number), transport.UNCHECKED)
        link = messages.decode(messages.Link, data)
        trusted = parameters.advance(followed[-1][0], link) if followed else parameters.begin(link)
        followed.append((trusted, link))
    if not followed or followed[-1][0].head != heads.parameters:
        raise KeyChanged("the authority's parameters do not lead to the head it names; ask the authority")
    return followed


async def join(
    curve: Curve,
    chance: chances.Random,
    store: Store,
    url: str,
    invitation: str,
    followed: list[tuple[Trusted, messages.Link]],
    now: float,
) -> Account:
    """Register with an authority whose fingerprint the user confirmed (*Set_UserID*, *Userkeygen*).

    What is sent is kept first, so that a lost answer can be asked for again. Raises Misuse where the device has joined
    already, KeyChanged where parameters have run out or a head is false, CodeRefused, Unreachable, Refused.
    """
    genesis = followed[0][0].head.hash
    trusted = followed[-1][0]
    membership = store.get(MEMBERSHIP, Membership)
    if membership is not None and membership.issued is not None:
        raise Misuse(f"this agent has joined already ({membership.url}); to start anew, run: spot leave")
    # Whoever is on the way can leave the newest links out; then the invitation would go to roots that were replaced.
    parameters.check_validity(trusted.parameters, now)
    if membership is not None and (membership.genesis, membership.invitation) == (genesis, invitation):
        with contextlib.suppress(Refused, NotMine):  # the nonce or the issuer's period ran out meanwhile: ask anew
            return await _finish(curve, store, membership)
    number, issuer = _current_issuer(curve, trusted, encounter.day_of(now))
    secret = credential.new_secret(chance.randbytes)
    published = await _fetch_published(url, trusted.parameters)
    roots = trusted.parameters.roots
    nonce = messages.decode(messages.Nonce, await transport.post(url, messages.NONCE_PATH, b"", trust=roots)).nonce
    request = messages.UserJoin(
        invitation=invitation,
        issuer=number,
        join=credential.join(curve, chance.randbytes, secret, issuer, nonce),
    )
    membership = Membership(
        url=url,
        genesis=genesis,
        issuer=number,
        secret=encode_scalar(secret),
        invitation=invitation,
        request=messages.encode(request),
    )
    for step, step_link in followed:
        keep_trusted(store, step, step_link)
    if published.number >= 0:
        store.keep_publication(published, [])
    store.put(MEMBERSHIP, membership)
    return await _finish(curve, store, membership)


async def _fetch_published(url: str, now: Parameters) -> Head:
    """The authority's last publication: nothing published before can concern a device that has no encounter yet.

    Its signature is looked at: at a head that is made up, nothing would follow, and nothing would tell.
    """
    heads = messages.decode(messages.Heads, await transport.get(url, messages.HEADS_PATH, now.roots))
    head = heads.publications
    if head.number < 0:
        return head
    path = messages.PUBLICATIONS_PATH.format(number=head.number)
    link = messages.decode(messages.Link, await transport.get(url, path, now.roots))
    return publication.begin(head, now.publication_keys, link)


async def _finish(curve: Curve, store: Store, membership: Membership) -> Account:
    now = read_trusted(store).parameters
    issuer = parameters.read_keys(curve, now).issuer(membership.issuer)
    answer = await transport.post(membership.url, messages.JOIN_PATH, membership.request, trust=now.roots)
    issued = messages.decode(messages.Issued, answer)
    credential.accept(curve, decode_scalar(membership.secret, "the stored secret key"), issuer, issued)
    store.put(MEMBERSHIP, msgspec.structs.replace(membership, issued=issued))
    return open_account(curve, store)


def _current_issuer(curve: Curve, trusted: Trusted, day: int) -> tuple[int, credential.IssuerKey]:
    """The newest issuer whose period has begun."""
    begun = [issuer for issuer in trusted.parameters.issuers if issuer.from_day <= day <= issuer.until_day]
    if not begun:
        raise Refused("the authority issues no credentials today; ask the authority")
    newest = max(begun, key=lambda issuer: issuer.from_day)
    return newest.number, credential.read_issuer(curve, credential.Holder.USER, newest.key)
