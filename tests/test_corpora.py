"""What fuzzing found stays found: every kept input of tests/corpora through its target, without atheris.

`scripts/fuzz` finds them. What it does for hours is done here for a moment as well: honest and kept inputs are changed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzzing import corpus, mutation, targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.fuzzing.target import Check, Target

SLOW = {"http": 60, "makers": 3}
EXAMPLES = 200


@pytest.fixture(scope="module", params=targets.NAMES)
def checked(request: pytest.FixtureRequest) -> Iterator[tuple[Target, Check]]:
    target = targets.load(request.param)
    with target.ready() as check:
        yield target, check


@cache
def inputs(name: str) -> list[bytes]:
    return [*targets.load(name).seeds(), *(path.read_bytes() for path in corpus.kept(name))]


def test_what_fuzzing_found_stays_found(checked: tuple[Target, Check]) -> None:
    target, check = checked
    for one in inputs(target.name):
        check(one)


def test_whatever_is_sent_is_taken_or_refused_as_it_must_be(checked: tuple[Target, Check]) -> None:
    target, check = checked

    @given(st.data())
    @settings(max_examples=SLOW.get(target.name, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
    def holds(data: st.DataObject) -> None:
        mutate = mutation.mutator(target.modes, lambda given, most: _edited(data, given)[:most])
        sent = mutate(
            data.draw(st.sampled_from(inputs(target.name))), target.longest, data.draw(st.integers(0, 1 << 30))
        )
        check(sent)

    holds()


def _edited(data: st.DataObject, given: bytes) -> bytes:
    """The bytes with some exchanged, left out or put in."""
    start = data.draw(st.integers(0, len(given)))
    end = data.draw(st.integers(start, min(len(given), start + 9)))
    return given[:start] + data.draw(st.binary(max_size=9)) + given[end:]


def test_every_corpus_has_its_target_and_is_small() -> None:
    assert {path.name for path in corpus.KEPT.glob("*")} <= set(targets.NAMES)
    assert sum(path.stat().st_size for name in targets.NAMES for path in corpus.kept(name)) < 300_000
