"""Looking for one's own encounters in publications."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.kept import State, StoredReport
from agent.lookup import Lookup
from protocol import chain, publication
from protocol.encounter import token_of
from protocol.publication import PublishedToken
from scripts.benchmarks import match
from tests.agent.joined import met
from tests.support import Source

if TYPE_CHECKING:
    from agent.kept import Encounter
    from agent.store import Store
    from protocol.messages import Publication


def published(*tokens: PublishedToken) -> Publication:
    (batch,) = publication.build(Source("padding"), chain.EMPTY, 0, tokens, 4)
    return batch


def of_peer(one: Encounter) -> bytes:
    return token_of(one.secret, 1 - one.role)


@pytest.fixture
def kept(store: Store) -> list[Encounter]:
    """Three encounters in the store."""
    store.keep_encounters([replace(met(name), state=State.SIGNED) for name in "abc"])
    return store.encounters()


@pytest.mark.parametrize(("apart", "found"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_an_encounter_is_found_on_its_day_or_the_next_to_it(
    store: Store, kept: list[Encounter], apart: int, found: bool
) -> None:
    batch = published(*(PublishedToken(of_peer(one), one.day + apart, 2) for one in kept))
    assert sorted(Lookup(store).find(batch)) == ([(one.id, 2) for one in kept] if found else [])


def test_ones_own_token_is_nobodys(store: Store, kept: list[Encounter]) -> None:
    batch = published(*(PublishedToken(token_of(one.secret, one.role), one.day, 1) for one in kept))
    assert Lookup(store).find(batch) == []


def test_what_was_declared_is_not_looked_for(store: Store, kept: list[Encounter]) -> None:
    report = StoredReport(b"digest", "code", b"", b"", b"", (kept[0].id, kept[2].id), 0.0)
    store.keep_report(report)
    store.finish_report(report, b"receipt", accepted=True)
    batch = published(*(PublishedToken(of_peer(one), one.day, 1) for one in kept))
    assert Lookup(store).find(batch) == [(kept[1].id, 1)]


def test_one_lookup_serves_many_publications(store: Store, kept: list[Encounter]) -> None:
    lookup = Lookup(store)
    found = [lookup.find(published(PublishedToken(of_peer(one), one.day, 1))) for one in kept]
    assert found == [[(one.id, 1)] for one in kept]


def test_the_bench_finds_all_that_it_published() -> None:
    (row,) = match.measure((3000,), 150)
    assert row["tokens"] >= 2900
    assert row["agent"]["found"] == row["floor"]["found"] == match.FOUND
    assert row["agent"]["bytes"] > row["tokens"] * 16
