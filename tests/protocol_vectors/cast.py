"""Who plays in the vectors: issuers, members and keys, the same in every file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from protocol import credential, messages, randomness
from protocol.credential import Holder, IssuerSecret
from tests.protocol_vectors.making import stream
from tests.protocol_vectors.plain import Values, scalar

if TYPE_CHECKING:
    from protocol.curve import Curve


@dataclass
class Issuer:
    """An issuer of this name, for users or proxies."""

    curve: Curve
    name: str
    holder: Holder

    @cached_property
    def secret(self) -> IssuerSecret:
        """x and y."""
        return credential.new_issuer(self.curve, stream(self.name), self.holder)[0]

    @cached_property
    def public(self) -> messages.IssuerPublic:
        """The public key with its proof."""
        return credential.new_issuer(self.curve, stream(self.name), self.holder)[1]

    @cached_property
    def key(self) -> credential.IssuerKey:
        """The key, checked."""
        return credential.read_issuer(self.curve, self.holder, self.public)

    @property
    def given(self) -> Values:
        """As vectors give it."""
        return {"holder": self.holder.value.decode(), "issuer": self.key.encoded.hex()}


@dataclass
class Member:
    """Who holds a credential of this issuer."""

    issuer: Issuer
    name: str

    @cached_property
    def secret(self) -> int:
        """The member's sk."""
        return credential.new_secret(stream(f"{self.name}: secret"))

    @cached_property
    def own(self) -> credential.Credential:
        """The credential."""
        issuer, random, nonce = self.issuer, stream(f"{self.name}: credential"), bytes(32)
        request = credential.join(issuer.curve, random, self.secret, issuer.key, nonce)
        issued = credential.issue(issuer.curve, random, issuer.secret, issuer.key, request, nonce)
        return credential.accept(issuer.curve, self.secret, issuer.key, issued)

    @property
    def opening(self) -> str:
        """T~ = sk·Y~."""
        return (self.secret * self.issuer.key.y).encode().hex()

    @property
    def given(self) -> Values:
        """As vectors give it, with the issuer."""
        points = {"s1": self.own.s1.encode().hex(), "s2": self.own.s2.encode().hex()}
        return self.issuer.given | {"secret": scalar(self.secret)} | points


def chosen(name: str, *scalars: str) -> Values:
    """Random scalars of these names, as vectors give them."""
    random = stream(name)
    return {one: scalar(randomness.scalar(random)) for one in scalars}


@dataclass
class Cast:
    """Everybody."""

    curve: Curve

    def __post_init__(self) -> None:
        self.users = Issuer(self.curve, "issuer of users", Holder.USER)
        self.later = Issuer(self.curve, "later issuer of users", Holder.USER)
        self.north = Issuer(self.curve, "group north", Holder.PROXY)
        self.south = Issuer(self.curve, "group south", Holder.PROXY)
        self.ada, self.ben = Member(self.users, "Ada"), Member(self.users, "Ben")
        self.renewed = Member(self.later, "Ada")
        self.proxy, self.other_proxy = Member(self.north, "proxy 1"), Member(self.north, "proxy 2")
        self.server = chosen("server", "server_secret")


def replaced(message: Any, **fields: Any) -> Any:
    """The message with these fields."""
    return msgspec.structs.replace(message, **fields)


def as_hex(message: messages.Message) -> str:
    """The message as vectors give it."""
    return messages.encode(message).hex()
