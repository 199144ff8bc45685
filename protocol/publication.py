"""What the authority publishes, and how a device looks for its own contacts in it, in private."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import chain, hashing, messages
from protocol.encounter import TOKEN_SIZE
from protocol.errors import Malformed
from protocol.messages import Publication, PublishedDay

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from protocol.messages import Head, Link
    from protocol.randomness import Random


@dataclass(frozen=True, slots=True)
class PublishedToken:
    """One token of a publication: 16 bytes, the day of the contact, its infectiousness level from 1."""

    token: bytes
    day: int
    level: int


def build(random: Random, head: Head, issued_at: int, tokens: Iterable[PublishedToken], floor: int) -> Publication:
    """The publication after `head`.

    Tokens are sorted, which shuffles them across declarers, and filled up with random ones to multiples of `floor` a
    day and level, so that a publication's size tells little about how many declared.
    """
    groups: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for entry in tokens:
        groups[entry.day, entry.level].add(entry.token)
    for group in groups.values():
        while len(group) % floor:
            group.add(random(TOKEN_SIZE))
    days = (
        PublishedDay(day=day, level=level, tokens=b"".join(sorted(group)))
        for (day, level), group in sorted(groups.items())
    )
    return Publication(number=head.number + 1, previous=head.hash, issued_at=issued_at, days=tuple(days))


def sign(key: Ed25519PrivateKey, publication: Publication) -> Link:
    """The publication's link of the chain."""
    return chain.sign(key, hashing.PUBLICATION, messages.encode(publication))


def follow(head: Head, key: bytes, link: Link) -> tuple[Head, Publication]:
    """Check the link after `head` under the parameters' publication key. Raises Malformed or KeyChanged."""
    chain.check_signature(key, hashing.PUBLICATION, link)
    publication = messages.decode(Publication, link.body)
    if any(len(day.tokens) % TOKEN_SIZE for day in publication.days):
        raise Malformed("the tokens of a publication are cut; the authority must mend it")
    after = chain.follow(head, hashing.PUBLICATION, link, publication.number, publication.previous)
    return after, publication


def match(publication: Publication, own: Container[bytes]) -> Iterator[PublishedToken]:
    """Those of the publication's tokens that are among one's own (the tokens one's peers would declare)."""
    for day in publication.days:
        for start in range(0, len(day.tokens), TOKEN_SIZE):
            token = day.tokens[start : start + TOKEN_SIZE]
            if token in own:
                yield PublishedToken(token, day.day, day.level)
