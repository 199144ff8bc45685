"""Publications: built, signed, followed, matched."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from protocol import chain, encounter, messages, publication
from protocol.errors import KeyChanged
from protocol.publication import PublishedToken
from tests.support import DAY, NOW, Source, found_in, world_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.messages import Head, Link, Publication

WORLD = world_of("arkworks")  # nothing here depends on the maker
KEYS = WORLD.parameters.publication_keys

TOKENS = st.lists(
    st.builds(PublishedToken, st.binary(min_size=16, max_size=16), st.integers(DAY - 3, DAY), st.integers(1, 2)),
    max_size=20,
)


def _three() -> list[Link]:
    head, links, random = chain.EMPTY, [], Source("publications")
    for index in range(3):
        tokens = [PublishedToken(bytes([index]) * 16, DAY, 1)]
        (built,) = publication.build(random, head, NOW, tokens, 4)
        links.append(publication.sign(WORLD.publication_key, built))
        head, _ = publication.follow(head, KEYS, links[-1])
    return links


def _follow(links: list[Link]) -> Head:
    head = chain.EMPTY
    for link in links:
        head, _ = publication.follow(head, KEYS, link)
    return head


def _joined(batches: Iterable[Publication]) -> dict[tuple[int, int], list[bytes]]:
    """All tokens of several publications by day and level, in the order published."""
    found: dict[tuple[int, int], list[bytes]] = {}
    for batch in batches:
        for day in batch.days:
            parts = [day.tokens[start : start + 16] for start in range(0, len(day.tokens), 16)]
            found.setdefault((day.day, day.level), []).extend(parts)
    return found


@given(TOKENS, st.integers(1, 8), st.integers(1, 30))
def test_publications_hide_how_many_declared_and_who_did_together(
    tokens: list[PublishedToken], floor: int, most: int
) -> None:
    batches = list(publication.build(Source("padding"), chain.EMPTY, NOW, tokens, floor, most))
    together = _joined(batches)
    assert list(together) == sorted({(one.day, one.level) for one in tokens})
    for parts in together.values():
        assert len(parts) % floor == 0
        assert parts == sorted(set(parts)), "order tells nothing about who declared what"
    own = {one.token for one in tokens}
    assert {one for batch in batches for one in found_in(batch, own)} == set(tokens)


@given(TOKENS, st.integers(1, 8), st.integers(1, 30))
def test_what_is_too_much_for_one_publication_goes_on_in_the_next(
    tokens: list[PublishedToken], floor: int, most: int
) -> None:
    head = chain.EMPTY
    batches = list(publication.build(Source("padding"), chain.EMPTY, NOW, tokens, floor, most))
    for index, batch in enumerate(batches):
        size = sum(len(day.tokens) for day in batch.days) // 16
        assert size == most if index + 1 < len(batches) else size <= most
        assert messages.decode(messages.Publication, messages.encode(batch)) == batch
        head, _ = publication.follow(head, KEYS, publication.sign(WORLD.publication_key, batch))
        assert head.hash == publication.hash_of(batch)
    whole = publication.build(Source("padding"), chain.EMPTY, NOW, tokens, floor)
    assert _joined(batches) == _joined(whole)


def test_the_largest_link_is_one_that_is_taken() -> None:
    days = range(64)
    each = publication.MOST_TOKENS // len(days)
    tokens = [PublishedToken(index.to_bytes(16), DAY - day, 1) for day in days for index in range(each)]
    (built,) = publication.build(Source("padding"), chain.EMPTY, NOW, tokens, 1)
    assert len(messages.encode(publication.sign(WORLD.publication_key, built))) <= messages.LINK_LIMIT


def test_the_order_of_declaring_leaves_no_trace() -> None:
    tokens = [PublishedToken(bytes([index]) * 16, DAY, 1) for index in range(8)]
    one, other = (
        list(publication.build(Source("padding"), chain.EMPTY, NOW, order, 4)) for order in (tokens, tokens[::-1])
    )
    assert one == other


def _looked_through(batch: Publication, own: dict[int, list[bytes]]) -> list[PublishedToken]:
    """What `match` finds, found without cleverness."""
    return [
        PublishedToken(token, day.day, day.level)
        for day in batch.days
        for start in range(0, len(day.tokens), 16)
        if (token := day.tokens[start : start + 16]) in own.get(day.day, ())
    ]


@given(st.binary(min_size=1), st.integers(1, 700), st.lists(st.integers(0, 2**20), max_size=20))
def test_matching_does_so_in_large_publications(seed: bytes, count: int, others: list[int]) -> None:
    chance = random.Random(seed)
    # With many equal bytes, so that tokens also stand where none begins.
    tokens = {bytes(chance.choice((0, 0, 0, 1)) for _ in range(16)) for _ in range(count)}
    own = {DAY: sorted({*chance.sample(sorted(tokens), len(tokens) // 3), *(one.to_bytes(16) for one in others)})}
    entries = [PublishedToken(token, DAY, 1) for token in tokens]
    (batch,) = publication.build(Source("padding"), chain.EMPTY, NOW, entries, 1)
    assert list(publication.match(batch, own)) == _looked_through(batch, own)


# Few different ones, so that own tokens are the first, the last, between and beside the published ones.
FEW = st.integers(0, 40).map(lambda number: number.to_bytes(16))


@given(
    st.lists(st.builds(PublishedToken, FEW, st.integers(DAY - 2, DAY), st.integers(1, 2)), max_size=40),
    st.dictionaries(st.integers(DAY - 3, DAY), st.lists(FEW, max_size=20).map(sorted)),
)
def test_matching_finds_what_looking_at_every_token_finds(
    tokens: list[PublishedToken], own: dict[int, list[bytes]]
) -> None:
    distinct = {day: sorted(set(mine)) for day, mine in own.items()}
    for batch in publication.build(Source("padding"), chain.EMPTY, NOW, tokens, 1, 15):
        assert list(publication.match(batch, distinct)) == _looked_through(batch, distinct)


def test_a_device_finds_only_what_its_peer_declared() -> None:
    secret = bytes(range(32))
    declared = PublishedToken(encounter.token_of(secret, 0), DAY, 2)
    (built,) = publication.build(Source("padding"), chain.EMPTY, NOW, [declared], 4)
    assert found_in(built, {encounter.token_of(secret, 0)}) == [declared]
    assert not found_in(built, {encounter.token_of(secret, 1)}), "nobody is warned by the own list"


def test_tokens_are_matched_where_they_begin_only() -> None:
    (built,) = publication.build(Source("padding"), chain.EMPTY, NOW, [PublishedToken(b"ab" * 8, DAY, 1)], 2)
    shifted = {built.days[0].tokens[8:24]}
    assert not found_in(built, shifted)


def test_a_chain_is_followed_in_order() -> None:
    head = _follow(_three())
    assert head.number == 2


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ([1], "expected number 0 "),
        ([0, 2], "expected number 1 "),
        ([0, 0], "expected number 1 "),
        ([0, 1, 0], "expected number 2 "),
        ([1, 0, 2], "expected number 0 "),
    ],
    ids=["begun late", "withheld", "repeated", "rolled back", "reordered"],
)
def test_a_chain_out_of_order_is_noticed(order: list[int], text: str) -> None:
    links = _three()
    with pytest.raises(KeyChanged, match=text):
        _follow([links[index] for index in order])


def test_another_history_is_noticed() -> None:
    links = _three()
    random = Source("another")
    (first,) = publication.build(random, chain.EMPTY, NOW, [PublishedToken(b"x" * 16, DAY, 1)], 4)
    forked = publication.sign(WORLD.publication_key, first)
    assert _follow([forked]) != _follow(links[:1]), "two views have two heads"
    with pytest.raises(KeyChanged, match="does not continue"):
        _follow([forked, links[1]])


def test_the_signature_is_no_part_of_the_hash() -> None:
    """Whoever can make a second valid signature of a link makes no second chain."""
    link = _three()[0]
    assert chain.hash_of(b"tag", link) == chain.hash_of(b"tag", altered(link, signature=bytes(64)))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\xff" * 32], ids=["empty", "short", "long", "no point"])
def test_what_is_no_key_verifies_nothing(key: bytes) -> None:
    with pytest.raises(KeyChanged, match="not signed with its key"):
        publication.follow(chain.EMPTY, [messages.PublicationKey(first=0, key=key)], _three()[0])


def test_a_fingerprint_is_read_out_in_eight_groups() -> None:
    text = chain.fingerprint(bytes(range(32)))
    assert [len(group) for group in text.split("-")] == [4] * 8
    assert text == chain.fingerprint(bytes(range(20)) + bytes(12)), "160 bits of it are shown"
    assert text != chain.fingerprint(bytes(32))
