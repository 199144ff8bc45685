"""Makes chains.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import chain, declaration, hashing, messages, parameters, publication
from tests.protocol_vectors.cast import Cast, as_hex, replaced
from tests.protocol_vectors.contacts import DAY, NUMBER, SERVER, Contacts
from tests.protocol_vectors.making import File, stream
from tests.protocol_vectors.plain import plain

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(stream(f"{name} key")(32))


def _public(name: str) -> bytes:
    return _key(name).public_key().public_bytes_raw()


def _parameters(contacts: Contacts, number: int, previous: bytes, chain_key: str) -> messages.Parameters:
    cast = contacts.cast
    seal = declaration.read_seal_secret(stream("seal key")(96))
    return messages.Parameters(
        number=number,
        previous=previous,
        issued_at=DAY * 86400 + number,
        valid_until=(DAY + 14) * 86400,
        authority="Example health authority",
        chain_key=_public(chain_key),
        publication_keys=(messages.PublicationKey(first=0, key=_public("publication")),),
        seal_key=seal.public,
        server_keys=(messages.ServerKey(number=SERVER, from_time=DAY * 86400, key=bytes.fromhex(contacts.server_key)),),
        issuers=(
            messages.UserIssuer(number=NUMBER, key=cast.users.public, from_day=DAY - 90, until_day=DAY + 14),
            messages.UserIssuer(number=NUMBER + 1, key=cast.later.public, from_day=DAY, until_day=DAY + 104),
        ),
        groups=(
            messages.ProxyGroup(
                name="north", key=cast.north.public, proxies=("https://n1.example", "https://n2.example")
            ),
            messages.ProxyGroup(name="south", key=cast.south.public, proxies=("https://s1.example",)),
        ),
        limits=messages.Limits(
            epoch=900,
            minimum=60,
            first_seen_days=3,
            ask_days=4,
            retention_days=14,
            clock_tolerance=180,
            contacts=1000,
            floor=64,
            delay=3600,
            retry_first=3600,
            retry_last=43200,
            submissions=2000,
        ),
        risk=messages.Risk(
            bands=(
                messages.Band(below=55.0, weight=1.0),
                messages.Band(below=63.0, weight=0.5),
                messages.Band(below=73.0, weight=0.0),
            ),
            within=2.0,
            falloff=2.0,
            minimum=5.0,
            infectiousness=(0.5, 1.0),
            warn_at=15.0,
            gap=120.0,
        ),
        onset=(
            messages.OnsetLevel(first=-2, last=3, level=2),
            messages.OnsetLevel(first=4, last=10, level=1),
        ),
        roots=(b"a certificate",) if number else (),
    )


def make_chains(curve: Curve) -> File:
    """Parameters and publications."""
    file = File("The chains of parameters and publications. Hexadecimal.", curve)
    contacts = Contacts(Cast(curve))
    # The second link names another key, with which the third is signed.
    bodies, links, head = [], [], chain.EMPTY
    for number, (signer, named) in enumerate(
        (("chain", "chain"), ("chain", "next chain"), ("next chain", "next chain"))
    ):
        body = messages.encode(_parameters(contacts, number, head.hash, named))
        made = file.gives("link", f"parameters {number}", **_signing(signer, hashing.PARAMETERS, body))
        head = messages.Head(number=number, hash=bytes.fromhex(made["hash"]))
        bodies.append(body)
        links.append(made["link"])
    file.gives("followed parameters", "three links", links=links)
    file.gives("followed parameters", "the genesis", links=links[:1])
    file.gives("keys", "of the last link", body=bodies[-1].hex())
    file.gives("keys", "some of them replaced", body=messages.encode(_rotated(contacts)).hex())
    for name, bad in _bad_chains(contacts, links).items():
        file.refuses("followed parameters", name, "key-changed", links=bad)
    for name, changed in _senseless(contacts).items():
        link = _signed("chain", hashing.PARAMETERS, messages.encode(changed))
        file.refuses("followed parameters", name, "malformed", links=[link])
    last = messages.decode(messages.Parameters, bodies[-1])
    foreign = replaced(last.groups[0], key=last.issuers[0].key)
    swapped = messages.encode(replaced(last, groups=(foreign,)))
    file.refuses("keys", "a group with the key of an issuer of users", "refused", body=swapped.hex())
    _make_publications(file)
    return file


def _rotated(contacts: Contacts) -> messages.Parameters:
    """After a second server key and a second key of the group north, whose proxies moved with it."""
    first = _parameters(contacts, 0, bytes(32), "chain")
    old, north = first.server_keys[0], first.groups[0]
    fresh = messages.ServerKey(number=SERVER + 1, from_time=old.from_time + 3600, key=contacts.cast.later.public.x)
    after = replaced(north, name="north-2", key=contacts.cast.other_proxy.issuer.public)
    rotated: messages.Parameters = replaced(
        first,
        server_keys=(replaced(old, until_day=DAY), fresh),
        groups=(replaced(north, until_day=DAY + 1, proxies=()), after, first.groups[1]),
    )
    return rotated


def _signing(key: str, tag: bytes, body: bytes) -> Values:
    return {"key_seed": stream(f"{key} key")(32).hex(), "tag": tag.decode(), "body": body.hex()}


def _signed(key: str, tag: bytes, body: bytes) -> str:
    return as_hex(chain.sign(_key(key), tag, body))


def _bad_chains(contacts: Contacts, links: list[str]) -> dict[str, list[str]]:
    decoded = [messages.decode(messages.Link, bytes.fromhex(link)) for link in links]
    heads = [chain.hash_of(hashing.PARAMETERS, link) for link in decoded]

    def second(**fields: Any) -> str:
        content = replaced(_parameters(contacts, 1, heads[0], "chain"), **fields)
        return as_hex(parameters.sign(_key("chain"), content))

    old_key = as_hex(parameters.sign(_key("chain"), _parameters(contacts, 2, heads[1], "chain")))
    body = decoded[1].body
    altered = body.replace(b"Example health", b"Another health")
    return {
        "a link left out": [links[0], links[2]],
        "a link twice": [links[0], links[0]],
        "not from its start": links[1:],
        "another number": [links[0], second(number=2)],
        "another predecessor": [links[0], second(previous=bytes(32))],
        "an altered link": [links[0], as_hex(replaced(decoded[1], body=altered))],
        "signed for the other chain": [links[0], _signed("chain", hashing.PUBLICATION, body)],
        "signed with a key that was replaced": [*links[:2], old_key],
    }


def _senseless(contacts: Contacts) -> dict[str, messages.Parameters]:
    good = _parameters(contacts, 0, bytes(32), "chain")
    bands = good.risk.bands
    return {
        "two groups of one name": replaced(good, groups=good.groups[:1] * 2),
        "two issuers of one number": replaced(good, issuers=good.issuers[:1] * 2),
        "bands out of order": replaced(good, risk=replaced(good.risk, bands=bands[::-1])),
        "a level without weight": replaced(good, risk=replaced(good.risk, infectiousness=(1.0,))),
        "two server keys of one number": replaced(good, server_keys=good.server_keys * 2),
        "two publication keys from one number": replaced(good, publication_keys=good.publication_keys * 2),
    }


def _make_publications(file: File) -> None:
    random = stream("tokens")
    tokens = [{"token": random(16).hex(), "day": DAY - index % 2, "level": 1 + index % 2} for index in range(3)]
    keys = [{"first": 0, "key": _public("publication").hex()}]
    head, links = chain.EMPTY, []
    for number, listed in enumerate((tokens[:2], [], tokens[2:])):
        given = {"head": plain(head), "issued_at": (DAY + 1) * 86400 + number, "floor": 4, "tokens": listed}
        built = file.gives("publication", str(number), seed=f"SPOT test vectors: filling {number}", **given)
        body = bytes.fromhex(built["body"])
        made = file.gives("link", f"publication {number}", **_signing("publication", hashing.PUBLICATION, body))
        head = messages.Head(number=number, hash=bytes.fromhex(made["hash"]))
        links.append(made["link"])
    own = [tokens[0]["token"], tokens[2]["token"], bytes(16).hex()]
    file.gives("followed publications", "three links", publication_keys=keys, links=links, own=own)
    _make_resumed(file, links)
    first = messages.decode(messages.Link, bytes.fromhex(links[0]))
    cut = messages.decode(messages.Publication, first.body)
    cut = replaced(cut, days=(replaced(cut.days[0], tokens=cut.days[0].tokens[:-1]),))
    bad = {
        "a link left out": ("key-changed", [links[0], links[2]]),
        "reordered": ("key-changed", [links[1], links[0]]),
        "signed with another key": ("key-changed", [_signed("chain", hashing.PUBLICATION, first.body)]),
        "signed for the other chain": ("key-changed", [_signed("publication", hashing.PARAMETERS, first.body)]),
        "a token cut": ("malformed", [as_hex(publication.sign(_key("publication"), cut))]),
    }
    for name, (slug, listed) in bad.items():
        file.refuses("followed publications", name, slug, publication_keys=keys, links=listed, own=[])


def _make_resumed(file: File, links: list[str]) -> None:
    """Publications under two keys; taken up again at the second, for what is before it is no longer offered."""
    old, new = _public("publication").hex(), _public("next publication").hex()
    second, third = (messages.decode(messages.Link, bytes.fromhex(link)) for link in links[1:])
    resigned = _signed("next publication", hashing.PUBLICATION, third.body)
    keys = [{"first": 0, "key": old}, {"first": 2, "key": new}]
    given: Values = {"publication_keys": keys, "own": []}
    issued = messages.decode(messages.Publication, second.body).issued_at
    file.gives("followed publications", "a new key from the third on", links=[*links[:2], resigned], **given)
    file.gives("followed publications", "taken up at the second", links=[links[1], resigned], forgotten=issued, **given)
    bad: dict[str, Values] = {
        "the old key after its time": {"links": links},
        "the new key before its time": {
            "links": [links[0], _signed("next publication", hashing.PUBLICATION, second.body)],
        },
        "taken up where some are missing that matter": {"links": [links[1], resigned], "forgotten": issued - 1},
        "taken up, then a link left out": {"links": [links[0], resigned], "forgotten": issued},
        "before the first key": {"links": links[:1], "publication_keys": keys[1:]},
    }
    for name, other in bad.items():
        file.refuses("followed publications", name, "key-changed", **(given | other))
