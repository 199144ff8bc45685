"""What the authority publishes, and how a device looks for its own contacts in it, in private."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import chain, hashing, messages
from protocol.encounter import TOKEN_SIZE
from protocol.errors import KeyChanged, Malformed
from protocol.messages import Head, Publication, PublishedDay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from protocol.messages import Link, PublicationKey
    from protocol.randomness import Random

MOST_TOKENS = 1 << 16
"""In one publication: 1 MiB of them, so that a small device takes in a large outbreak piece by piece."""


STRIDE = 64 * TOKEN_SIZE
"""Bytes of published tokens that are searched through; which ones, halving tells. Fewer would mean more marks."""


@dataclass(frozen=True, slots=True)
class PublishedToken:
    """One token of a publication: 16 bytes, the day of the contact, its infectiousness level from 1."""

    token: bytes
    day: int
    level: int


def build(
    random: Random,
    head: Head,
    issued_at: int,
    tokens: Iterable[PublishedToken],
    floor: int,
    most: int = MOST_TOKENS,
) -> Iterator[Publication]:
    """The publications after `head`, with at most so many tokens in each: as many as it takes, one for none.

    Tokens are sorted, which shuffles them across declarers, and filled up with random ones to multiples of `floor` a
    day and level, so that their number tells little about how many declared. Only then are they cut into publications.
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
    for batch in list(_cut(days, most)) or [()]:
        publication = Publication(number=head.number + 1, previous=head.hash, issued_at=issued_at, days=batch)
        yield publication
        head = Head(number=publication.number, hash=hash_of(publication))


def _cut(days: Iterable[PublishedDay], most: int) -> Iterator[tuple[PublishedDay, ...]]:
    """The same in their order, at most so many tokens together."""
    batch: list[PublishedDay] = []
    room = most * TOKEN_SIZE
    for day in days:
        start = 0
        while start < len(day.tokens):
            part = day.tokens[start : start + room]
            batch.append(PublishedDay(day=day.day, level=day.level, tokens=part))
            start += len(part)
            room -= len(part)
            if not room:
                yield tuple(batch)
                batch, room = [], most * TOKEN_SIZE
    if batch:
        yield tuple(batch)


def hash_of(publication: Publication) -> bytes:
    """The hash of the publication's link, 32 bytes; who signs it does not matter."""
    return hashing.digest(hashing.PUBLICATION, messages.encode(publication))


def sign(key: Ed25519PrivateKey, publication: Publication) -> Link:
    """The publication's link of the chain."""
    return chain.sign(key, hashing.PUBLICATION, messages.encode(publication))


def follow(head: Head, keys: Sequence[PublicationKey], link: Link) -> tuple[Head, Publication]:
    """Check the link after `head` under the parameters' publication keys. Raises Malformed or KeyChanged."""
    publication = _read(keys, link)
    after = chain.follow(head, hashing.PUBLICATION, link, publication.number, publication.previous)
    return after, publication


def begin(head: Head, keys: Sequence[PublicationKey], link: Link) -> Head:
    """Check that the chain has this head, whose link this is: where a device begins. Raises Malformed or KeyChanged."""
    publication = _read(keys, link)
    if chain.head_of(hashing.PUBLICATION, link, publication.number) != head:
        raise KeyChanged("the authority's publications do not lead to the head it names; ask the authority")
    return head


def resume(head: Head, keys: Sequence[PublicationKey], link: Link, forgotten: float) -> tuple[Head, Publication]:
    """Take the chain up again at the oldest link that is still offered, past those after `head` that are not.

    forgotten: a time (seconds since 1970) before which nothing published can concern this device any more. The link
    must have been issued by then, so that those before it were, too. Raises Malformed or KeyChanged.
    """
    publication = _read(keys, link)
    if publication.number <= head.number:
        raise KeyChanged("the authority's publications go back behind what this device has seen; ask the authority")
    if publication.issued_at > forgotten:
        raise KeyChanged(
            "the authority no longer offers publications that this device still needs; ask the authority why"
        )
    return chain.head_of(hashing.PUBLICATION, link, publication.number), publication


def key_of(keys: Sequence[PublicationKey], number: int) -> bytes:
    """The key of the publication of this number. Raises KeyChanged where there is none."""
    holding = [one.key for one in keys if one.first <= number]
    if not holding:
        raise KeyChanged("the parameters name no key for this publication any more; sync again")
    return holding[-1]


def _read(keys: Sequence[PublicationKey], link: Link) -> Publication:
    publication = messages.decode(Publication, link.body)
    chain.check_signature(key_of(keys, publication.number), hashing.PUBLICATION, link)
    if any(len(day.tokens) % TOKEN_SIZE for day in publication.days):
        raise Malformed("the tokens of a publication are cut; the authority must mend it")
    return publication


def match(publication: Publication, own: Mapping[int, Sequence[bytes]]) -> Iterator[PublishedToken]:
    """Those of the publication's tokens that are among one's own (the tokens one's peers would declare).

    own: sorted, by the published day for which they count. Published tokens are sorted too, so that each of one's own
    takes a few steps, however many there are; in a publication that is not in order, some are not found.
    """
    for day in publication.days:
        for token in _common(day.tokens, own.get(day.day, ())):
            yield PublishedToken(token, day.day, day.level)


def _common(published: bytes, own: Sequence[bytes]) -> Iterator[bytes]:
    """Own tokens among published ones, which stand one after the other; both sorted."""
    marks = [published[start : start + TOKEN_SIZE] for start in range(0, len(published), STRIDE)]
    # A piece of a large publication spans a small part of all tokens that there could be.
    begin, end = bisect_left(own, published[:TOKEN_SIZE]), bisect_right(own, published[-TOKEN_SIZE:])
    for token in own[begin:end]:
        start = (bisect_right(marks, token) - 1) * STRIDE
        if start >= 0 and _has(published, token, start, start + STRIDE):
            yield token


def _has(published: bytes, token: bytes, start: int, end: int) -> bool:
    """Whether the token stands there, beginning where a token begins."""
    place = published.find(token, start, end)
    while place % TOKEN_SIZE and place >= 0:
        place = published.find(token, place + 1, end)
    return place >= 0
