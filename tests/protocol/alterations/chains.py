"""Alterations of parameters, publications and their chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, msgpack
from msgspec.structs import fields
from msgspec.structs import replace as altered

from protocol import chain, contact, declaration, hashing, messages, parameters, publication
from protocol.errors import KeyChanged, Malformed, NotMine, Refused, SpotError
from protocol.messages import (
    Band,
    Head,
    Limits,
    Link,
    OnsetLevel,
    Parameters,
    ProxyGroup,
    Publication,
    PublicationKey,
    PublishedDay,
    Risk,
    ServerKey,
    UserIssuer,
)
from tests.protocol.alterations import alteration, refused
from tests.protocol.dishonest import receive
from tests.support import DAY, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.messages import Message
    from protocol.parameters import Trusted
    from tests.support import World

NOT_SIGNED = "not signed with its key"
NUMBER = "of the authority's chain, got"
NOT_CONTINUED = "does not continue the one this device knows"
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


# --- the two chains, one link long ---


def next_parameters(world: World, **change: object) -> Parameters:
    """The parameters after the genesis, so altered."""
    following = altered(world.parameters, number=1, previous=world.parameters_hash)
    return altered(following, **change)


def advance(world: World, link: Link) -> Trusted:
    """The agent's step from the genesis."""
    return parameters.advance(parameters.begin(world.genesis), link)


def first_publication(world: World, **change: object) -> Publication:
    """The first publication, so altered."""
    tokens = [publication.PublishedToken(world.random(16), DAY - index % 2, 1) for index in range(5)]
    (first,) = publication.build(world.random, chain.EMPTY, NOW, tokens, 4)
    return altered(first, **change)


def follow(world: World, link: Link, head: Head = chain.EMPTY) -> None:
    """The agent's look at a publication."""
    publication.follow(head, world.parameters.publication_keys, link)


# --- every field, at any depth, altered under the old signature ---


def _varied(value: Any) -> Any:
    """Another value of the same form."""
    if isinstance(value, Struct):
        first = fields(value)[0].name
        return altered(value, **{first: _varied(getattr(value, first))})
    if isinstance(value, tuple):
        return (_varied(value[0]), *value[1:])
    if value is None:
        return 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value + "x" if isinstance(value, str) else value + 1


def _with_varied(root: Any, kind: type[Message], field: str) -> Any:
    """The root, with this field of the first such struct in it varied; the root itself where there is none."""
    if isinstance(root, kind):
        return altered(root, **{field: _varied(getattr(root, field))})
    for entry in fields(root) if isinstance(root, Struct) else ():
        value = getattr(root, entry.name)
        one = value[0] if isinstance(value, tuple) and value else value
        new = _with_varied(one, kind, field)
        if new != one:
            return altered(root, **{entry.name: (new, *value[1:]) if isinstance(value, tuple) else new})
    return root


def _under_the_old_signature(kind: type[Message], field: str) -> Callable[[World], None]:
    of_parameters = kind not in {Publication, PublishedDay}

    def attempt(world: World) -> None:
        root: Message
        if of_parameters:
            root = next_parameters(world)
            link = parameters.sign(world.chain_key, root)
        else:
            root = first_publication(world)
            link = publication.sign(world.publication_key, root)
        body = messages.encode(_with_varied(root, kind, field))
        assert messages.decode(type(root), body) != root, "the alteration must decode, and be one"
        moved = altered(link, body=body)
        if of_parameters:
            advance(world, moved)
        else:
            follow(world, moved)

    return attempt


_KINDS: tuple[type[Message], ...] = (
    Parameters,
    UserIssuer,
    ServerKey,
    PublicationKey,
    ProxyGroup,
    Limits,
    Risk,
    Band,
    OnsetLevel,
    Publication,
    PublishedDay,
)
for _kind in _KINDS:
    for _entry in fields(_kind):
        alteration(
            _kind,
            _entry.name,
            KeyChanged,
            NOT_SIGNED,
            "not signed anew",
            _under_the_old_signature(_kind, _entry.name),
        )


# --- parameters signed anew, with the right key ---


def _signed(world: World, following: Parameters) -> Trusted:
    return advance(world, parameters.sign(world.chain_key, following))


def _senseless(field: str, error: type[SpotError], text: str, name: str, value: Callable[[Parameters], object]) -> None:
    def attempt(world: World) -> None:
        _signed(world, next_parameters(world, **{field: value(world.parameters)}))

    alteration(Parameters, field, error, text, f"{name}, signed", attempt)


_senseless("number", KeyChanged, NUMBER, "repeated", lambda now: 0)
_senseless("number", KeyChanged, NUMBER, "skipped", lambda now: 2)
_senseless("previous", KeyChanged, NOT_CONTINUED, "zeros", lambda now: bytes(32))
_senseless("groups", Malformed, "share a name", "twice", lambda now: now.groups * 2)
_senseless("issuers", Malformed, "share a name", "twice", lambda now: now.issuers * 2)
_senseless("server_keys", Malformed, "not in rising order", "twice", lambda now: now.server_keys * 2)
_senseless("publication_keys", Malformed, "not in rising order", "twice", lambda now: now.publication_keys * 2)
_senseless("server_keys", Malformed, "not in rising order", "falling", lambda now: now.server_keys[::-1])
_senseless(
    "risk",
    Malformed,
    "not in rising order",
    "bands falling",
    lambda now: altered(now.risk, bands=now.risk.bands[::-1]),
)
_senseless(
    "risk",
    Malformed,
    "not in rising order",
    "bands repeated",
    lambda now: altered(now.risk, bands=now.risk.bands[:1] * 2),
)
_senseless(
    "risk",
    Malformed,
    "has no weight",
    "too few weights",
    lambda now: altered(now.risk, infectiousness=(1.0,)),
)
_senseless(
    "onset",
    Malformed,
    "has no weight",
    "level without weight",
    lambda now: (OnsetLevel(first=0, last=1, level=3),),
)
ENDS_FIRST = "ends before it begins"
_senseless(
    "issuers",
    Malformed,
    ENDS_FIRST,
    "period ends before it begins",
    lambda now: (altered(now.issuers[0], from_day=DAY + 31), *now.issuers[1:]),
)
_senseless("onset", Malformed, ENDS_FIRST, "span turned", lambda now: (OnsetLevel(first=3, last=2, level=1),))
_senseless(
    "limits",
    Malformed,
    ENDS_FIRST,
    "retries turned",
    lambda now: altered(now.limits, retry_first=now.limits.retry_last + 1),
)
_senseless("valid_until", Malformed, ENDS_FIRST, "before they are issued", lambda now: now.issued_at - 1)

SAME_KEY = "have the same key"
_senseless(
    "issuers",
    Malformed,
    SAME_KEY,
    "one key for two periods",
    lambda now: (now.issuers[0], altered(now.issuers[0], number=now.issuers[0].number + 1)),
)
_senseless(
    "groups",
    Malformed,
    SAME_KEY,
    "one key for two groups",
    lambda now: (now.groups[0], altered(now.groups[0], name="another")),
)
_senseless(
    "server_keys",
    Malformed,
    SAME_KEY,
    "one key of two numbers",
    lambda now: (*now.server_keys, altered(now.server_keys[-1], number=100, from_time=NOW + 100)),
)


@refused(Parameters, "number", KeyChanged, NUMBER)
def genesis_that_is_none(world: World) -> None:
    parameters.begin(parameters.sign(world.chain_key, next_parameters(world)))


@refused(Parameters, "previous", KeyChanged, NOT_CONTINUED)
def genesis_with_a_past(world: World) -> None:
    parameters.begin(parameters.sign(world.chain_key, altered(world.parameters, previous=b"\1" * 32)))


@refused(Parameters, "valid_until", KeyChanged, "have run out")
def run_out(world: World) -> None:
    following = _signed(world, next_parameters(world, valid_until=NOW + 10)).parameters
    parameters.check_validity(following, NOW + 10.5)


@refused(Parameters, "chain_key", KeyChanged, NOT_SIGNED)
def chain_key_rotated_by_a_stranger(world: World) -> None:
    """A link that names its own key is signed with that key, not with the one in the link before."""
    key = STRANGER.public_key().public_bytes_raw()
    advance(world, parameters.sign(STRANGER, next_parameters(world, chain_key=key)))


@refused(Parameters, "chain_key", KeyChanged, NOT_SIGNED)
def genesis_signed_with_another_key_than_its_own(world: World) -> None:
    parameters.begin(parameters.sign(STRANGER, world.parameters))


@refused(Parameters, "chain_key", KeyChanged, NOT_SIGNED)
def old_chain_key_after_rotation(world: World) -> None:
    key = STRANGER.public_key().public_bytes_raw()
    trusted = _signed(world, next_parameters(world, chain_key=key))
    third = altered(trusted.parameters, number=2, previous=trusted.head.hash)
    parameters.advance(trusted, parameters.sign(world.chain_key, third))


STRANGERS_KEY = STRANGER.public_key().public_bytes_raw()


def _publication_keys(world: World, *keys: PublicationKey) -> tuple[PublicationKey, ...]:
    return _signed(world, next_parameters(world, publication_keys=keys)).parameters.publication_keys


@refused(PublicationKey, "key", KeyChanged, NOT_SIGNED)
def publication_key_exchanged(world: World) -> None:
    link = publication.sign(world.publication_key, first_publication(world))
    publication.follow(chain.EMPTY, _publication_keys(world, PublicationKey(first=0, key=STRANGERS_KEY)), link)


@refused(PublicationKey, "first", KeyChanged, NOT_SIGNED)
def old_publication_key_after_rotation(world: World) -> None:
    old = world.parameters.publication_keys[0]
    keys = _publication_keys(world, old, PublicationKey(first=1, key=STRANGERS_KEY))
    link = publication.sign(world.publication_key, first_publication(world))
    head, _ = publication.follow(chain.EMPTY, keys, link)
    second = first_publication(world, number=1, previous=head.hash)
    publication.follow(head, keys, publication.sign(world.publication_key, second))


@refused(PublicationKey, "first", KeyChanged, "name no key for this publication")
def publication_from_before_the_keys(world: World) -> None:
    keys = _publication_keys(world, altered(world.parameters.publication_keys[0], first=1))
    publication.follow(chain.EMPTY, keys, publication.sign(world.publication_key, first_publication(world)))


@refused(Publication, "issued_at", KeyChanged, "this device still needs")
def needed_publications_left_out(world: World) -> None:
    link = publication.sign(world.publication_key, first_publication(world, number=7, previous=b"\1" * 32))
    publication.resume(chain.EMPTY, world.parameters.publication_keys, link, NOW - 1)


@refused(Publication, "number", KeyChanged, "go back behind")
def taken_up_again_where_it_was(world: World) -> None:
    link = publication.sign(world.publication_key, first_publication(world))
    head = Head(number=0, hash=b"\1" * 32)
    publication.resume(head, world.parameters.publication_keys, link, NOW)


@refused(Parameters, "seal_key", NotMine, "sealed for another key")
def seal_key_exchanged(world: World) -> None:
    other = declaration.read_seal_secret(world.random(96)).public
    following = _signed(world, next_parameters(world, seal_key=other)).parameters
    receive(world, declaration.seal(world.report, following.seal_key, world.parameters_hash))


def _seal_key(change: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        following = _signed(world, next_parameters(world, seal_key=change(world.seal.public))).parameters
        declaration.seal(world.report, following.seal_key, world.parameters_hash)

    return attempt


for _name, _change in (
    ("cut", lambda key: key[:-1]),
    ("empty", lambda key: b""),
    ("lengthened", lambda key: key + b"\0"),
    ("of coefficients out of range", lambda key: b"\xff" * len(key)),
    ("of low order", lambda key: key[:-32] + bytes(32)),
):
    alteration(Parameters, "seal_key", Malformed, "sealing key is not one", _name, _seal_key(_change))


def _read_keys(**change: Callable[[World], object]) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        new = {field: value(world) for field, value in change.items()}
        parameters.read_keys(world.curve, _signed(world, next_parameters(world, **new)).parameters)

    return attempt


alteration(
    ServerKey,
    "key",
    Malformed,
    "the server's key",
    "identity",
    _read_keys(server_keys=lambda world: (altered(world.parameters.server_keys[0], key=b"\xc0" + bytes(95)),)),
)


def _replaced(**change: Any) -> Callable[[World], None]:
    """A record of a key that the parameters say was replaced the day before."""

    def attempt(world: World) -> None:
        fresh = {field: (altered(getattr(world.parameters, field)[0], **new),) for field, new in change.items()}
        keys = parameters.read_keys(world.curve, _signed(world, next_parameters(world, **fresh)).parameters)
        one = world.contacts[0]
        contact.check_record(world.curve, world.random, keys.signers, one.submission, one.record)

    return attempt


alteration(
    ServerKey,
    "until_day",
    Refused,
    "was replaced before that day",
    "earlier",
    _replaced(server_keys={"until_day": DAY - 1}),
)
alteration(ServerKey, "number", NotMine, "not in the parameters", "another", _replaced(server_keys={"number": 9}))
alteration(
    ProxyGroup,
    "until_day",
    Refused,
    "was replaced before that day",
    "earlier",
    _replaced(groups={"until_day": DAY - 1}),
)


@refused(UserIssuer, "key", Refused, "without proof that its owner knows")
def group_key_for_users(world: World) -> None:
    one = altered(world.parameters.issuers[0], key=world.groups["north"].public)
    _read_keys(issuers=lambda world: (one,))(world)


@refused(ProxyGroup, "key", Refused, "without proof that its owner knows")
def user_key_for_a_group(world: World) -> None:
    one = altered(world.parameters.groups[0], key=world.users.public)
    _read_keys(groups=lambda world: (one,))(world)


def _issuer_day(asked: int, day: int, /, **change: int) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        first, *rest = world.parameters.issuers
        following = next_parameters(world, issuers=(altered(first, **change), *rest))
        parameters.check_issuer_day(_signed(world, following).parameters, asked, day)

    return attempt


_OVER = "is over or has not begun"
alteration(UserIssuer, "from_day", Refused, _OVER, "later", _issuer_day(1, DAY, from_day=DAY + 1))
alteration(UserIssuer, "until_day", Refused, _OVER, "earlier", _issuer_day(1, DAY, until_day=DAY - 1))
alteration(UserIssuer, "number", NotMine, "no longer in use", "another", _issuer_day(1, DAY, number=7))


# --- publications signed anew ---


@refused(Publication, "number", KeyChanged, NUMBER)
def publication_skipped(world: World) -> None:
    follow(world, publication.sign(world.publication_key, first_publication(world, number=1)))


@refused(Publication, "previous", KeyChanged, NOT_CONTINUED)
def publication_of_another_past(world: World) -> None:
    follow(world, publication.sign(world.publication_key, first_publication(world, previous=b"\1" * 32)))


@refused(PublishedDay, "tokens", Malformed, "tokens of a publication are cut")
def tokens_cut(world: World) -> None:
    one = first_publication(world).days[0]
    days = (altered(one, tokens=one.tokens[:-1]),)
    follow(world, publication.sign(world.publication_key, first_publication(world, days=days)))


# --- links and heads ---


@refused(Link, "signature", KeyChanged, NOT_SIGNED)
def link_signed_by_a_stranger(world: World) -> None:
    advance(world, parameters.sign(STRANGER, next_parameters(world)))


@refused(Link, "signature", KeyChanged, NOT_SIGNED)
def publication_signed_by_the_chain_key(world: World) -> None:
    follow(world, publication.sign(world.chain_key, first_publication(world)))


@refused(Link, "signature", KeyChanged, NOT_SIGNED)
def link_of_the_other_chain(world: World) -> None:
    """With one key for both chains, the tag would still keep them apart."""
    body = messages.encode(next_parameters(world))
    advance(world, chain.sign(world.chain_key, hashing.PUBLICATION, body))


@refused(Link, "body", KeyChanged, NOT_SIGNED)
def body_of_another_link(world: World) -> None:
    link = parameters.sign(world.chain_key, next_parameters(world))
    advance(world, altered(link, body=world.genesis.body))


@refused(Link, "body", KeyChanged, NOT_SIGNED)
def body_encoded_differently(world: World) -> None:
    """The same parameters in other bytes: the signature is over the bytes that travelled."""
    link = parameters.sign(world.chain_key, next_parameters(world))
    backwards = dict(reversed(msgpack.decode(link.body).items()))
    advance(world, altered(link, body=msgpack.encode(backwards)))


def _head(**change: Any) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        trusted = parameters.begin(world.genesis)
        head = altered(trusted.head, **change)
        link = parameters.sign(world.chain_key, next_parameters(world))
        parameters.advance(parameters.Trusted(head, trusted.parameters), link)

    return attempt


alteration(Head, "number", KeyChanged, NUMBER, "rolled back", _head(number=-1))
alteration(Head, "number", KeyChanged, NUMBER, "ahead", _head(number=1))
alteration(Head, "hash", KeyChanged, NOT_CONTINUED, "of another view", _head(hash=b"\1" * 32))
