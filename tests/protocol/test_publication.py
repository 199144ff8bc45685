"""Publications: built, signed, followed, matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from protocol import chain, encounter, messages, publication
from protocol.errors import KeyChanged
from protocol.publication import PublishedToken
from tests.support import DAY, NOW, Source, world_of

if TYPE_CHECKING:
    from protocol.messages import Head, Link

WORLD = world_of("arkworks")  # nothing here depends on the maker
KEY = WORLD.parameters.publication_key

TOKENS = st.lists(
    st.builds(PublishedToken, st.binary(min_size=16, max_size=16), st.integers(DAY - 3, DAY), st.integers(1, 2)),
    max_size=20,
)


def _three() -> list[Link]:
    head, links, random = chain.EMPTY, [], Source("publications")
    for index in range(3):
        tokens = [PublishedToken(bytes([index]) * 16, DAY, 1)]
        links.append(publication.sign(WORLD.publication_key, publication.build(random, head, NOW, tokens, 4)))
        head, _ = publication.follow(head, KEY, links[-1])
    return links


def _follow(links: list[Link]) -> Head:
    head = chain.EMPTY
    for link in links:
        head, _ = publication.follow(head, KEY, link)
    return head


@given(TOKENS, st.integers(1, 8))
def test_a_publication_hides_how_many_declared(tokens: list[PublishedToken], floor: int) -> None:
    built = publication.build(Source("padding"), chain.EMPTY, NOW, tokens, floor)
    assert {(day.day, day.level) for day in built.days} == {(one.day, one.level) for one in tokens}
    for day in built.days:
        parts = [day.tokens[start : start + 16] for start in range(0, len(day.tokens), 16)]
        assert len(parts) % floor == 0
        assert parts == sorted(set(parts)), "order tells nothing about who declared what"
    own = {one.token for one in tokens}
    assert set(publication.match(built, own)) == set(tokens)
    assert messages.decode(messages.Publication, messages.encode(built)) == built


def test_the_order_of_declaring_leaves_no_trace() -> None:
    tokens = [PublishedToken(bytes([index]) * 16, DAY, 1) for index in range(8)]
    one, other = (publication.build(Source("padding"), chain.EMPTY, NOW, order, 4) for order in (tokens, tokens[::-1]))
    assert one == other


def test_a_device_finds_only_what_its_peer_declared() -> None:
    secret = bytes(range(32))
    declared = PublishedToken(encounter.token_of(secret, 0), DAY, 2)
    built = publication.build(Source("padding"), chain.EMPTY, NOW, [declared], 4)
    assert list(publication.match(built, {encounter.token_of(secret, 0)})) == [declared]
    assert not list(publication.match(built, {encounter.token_of(secret, 1)})), "nobody is warned by the own list"


def test_tokens_are_matched_where_they_begin_only() -> None:
    built = publication.build(Source("padding"), chain.EMPTY, NOW, [PublishedToken(b"ab" * 8, DAY, 1)], 2)
    shifted = {built.days[0].tokens[8:24]}
    assert not list(publication.match(built, shifted))


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
    first = publication.build(random, chain.EMPTY, NOW, [PublishedToken(b"x" * 16, DAY, 1)], 4)
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
        publication.follow(chain.EMPTY, key, _three()[0])


def test_a_fingerprint_is_read_out_in_eight_groups() -> None:
    text = chain.fingerprint(bytes(range(32)))
    assert [len(group) for group in text.split("-")] == [4] * 8
    assert text == chain.fingerprint(bytes(range(20)) + bytes(12)), "160 bits of it are shown"
    assert text != chain.fingerprint(bytes(32))
