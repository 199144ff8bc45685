"""What a proxy hands on as the authority's publications, and looking for own contacts in it.

Bodies are signed here with the authority's own key, so that changes get past the signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol import chain, hashing, messages, publication
from protocol.encounter import TOKEN_SIZE
from protocol.errors import KeyChanged, Malformed
from protocol.messages import Head, Heads, Link, Publication, PublishedDay
from scripts.fuzzing.target import Target, by_mode, is_told_well, with_mode
from tests.support import DAY, NOW, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWN = tuple(bytes([number]) * TOKEN_SIZE for number in range(0, 256, 17))
FIRST = Publication(
    number=0,
    previous=bytes(32),
    issued_at=NOW,
    days=(
        PublishedDay(day=DAY, level=1, tokens=b"".join(sorted(OWN[2:5]))),
        PublishedDay(day=DAY + 1, level=2, tokens=b"".join(number.to_bytes(TOKEN_SIZE, "big") for number in range(70))),
    ),
)
SECOND = Publication(number=1, previous=publication.hash_of(FIRST), issued_at=NOW + 3600, days=FIRST.days[:1])
_WORLD = world_of("arkworks")
KEYS = _WORLD.parameters.publication_keys
HEAD = Head(number=0, hash=SECOND.previous)


def seeds() -> Iterator[bytes]:
    """Publications as the authority makes them, in all modes."""
    for mode, body in (("first", FIRST), ("second", SECOND), ("resumed", replace(SECOND, number=7))):
        yield with_mode(mode, messages.encode(body))
        yield with_mode(mode, messages.encode(replace(body, days=())))
    yield with_mode("link", messages.encode(publication.sign(_WORLD.publication_key, FIRST)))
    yield with_mode("heads", messages.encode(Heads(parameters=HEAD, publications=HEAD, oldest=0)))


def _link(data: bytes) -> None:
    """As it comes: only what the authority signed is followed."""
    try:
        link = messages.decode(Link, data)
        _, found = publication.follow(chain.EMPTY, KEYS, link)
    except (Malformed, KeyChanged) as error:
        is_told_well(error)
        return
    assert found == FIRST, "somebody else's publication"


def _heads(data: bytes) -> None:
    try:
        heads = messages.decode(Heads, data)
    except Malformed as error:
        is_told_well(error)
        return
    assert messages.decode(Heads, messages.encode(heads)) == heads


def _signed(head: Head, follow: Callable[[Head, Link], tuple[Head, Publication]]) -> Callable[[bytes], None]:
    """Check a body that the authority signs, whatever it is."""

    def check(body: bytes) -> None:
        link = chain.sign(_WORLD.publication_key, hashing.PUBLICATION, body)
        try:
            after, found = follow(head, link)
        except (Malformed, KeyChanged) as error:
            is_told_well(error)
            return
        assert after == Head(number=found.number, hash=hashing.digest(hashing.PUBLICATION, body))
        assert after.number > head.number
        assert all(len(day.tokens) % TOKEN_SIZE == 0 for day in found.days)
        assert messages.decode(Publication, messages.encode(found)) == found
        _match(found)

    return check


def _followed(head: Head, link: Link) -> tuple[Head, Publication]:
    after, found = publication.follow(head, KEYS, link)
    assert (found.number, found.previous) == (head.number + 1, head.hash)
    return after, found


def _resumed(head: Head, link: Link) -> tuple[Head, Publication]:
    after, found = publication.resume(head, KEYS, link, NOW + 86400)
    assert found.issued_at <= NOW + 86400
    return after, found


def _match(found: Publication) -> None:
    """The quick look finds what a look at each token finds."""
    published = [
        (day.tokens[start : start + TOKEN_SIZE], day.day, day.level)
        for day in found.days
        for start in range(0, len(day.tokens), TOKEN_SIZE)
    ]
    tokens = sorted({*OWN, *(token for token, _, _ in published[::3])})
    own = {day.day: tokens for day in found.days}
    quick = {(one.token, one.day, one.level) for one in publication.match(found, own)}
    slow = {one for one in published if one[0] in set(tokens)}
    assert quick <= slow, "a token that was not published"
    if all(_is_sorted(day.tokens) for day in found.days):
        assert quick == slow, "a token that was published and not found"


def _is_sorted(tokens: bytes) -> bool:
    pieces = [tokens[start : start + TOKEN_SIZE] for start in range(0, len(tokens), TOKEN_SIZE)]
    return pieces == sorted(pieces)


CHECKS = {
    "link": _link,
    "heads": _heads,
    "first": _signed(chain.EMPTY, _followed),
    "second": _signed(HEAD, _followed),
    "resumed": _signed(HEAD, _resumed),
}

TARGET = Target(
    name="publications",
    about="links of the publications, signed by the authority or not, and the look for own contacts",
    modules=("protocol.publication", "protocol.chain"),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    longest=16_384,
)
