"""What fuzzing found stays found: every kept input of tests/corpora, and honest ones, through its target.

`scripts/fuzz` finds them; here they are replayed, without atheris.
"""

from __future__ import annotations

import pytest

from scripts.fuzzing import corpus, targets


@pytest.mark.parametrize("name", targets.NAMES)
def test_what_fuzzing_found_stays_found(name: str) -> None:
    target = targets.load(name)
    with target.ready() as check:
        for seed in target.seeds():
            check(seed)
        for path in corpus.kept(name):
            check(path.read_bytes())


def test_every_corpus_has_its_target() -> None:
    assert {path.name for path in corpus.KEPT.glob("*")} <= set(targets.NAMES)
