"""What of a corpus goes into the repository: of the fewest inputs that reach as much, some of each mode, none large."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fuzzing import campaign, corpus, targets

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 24_000  # bytes a target: all corpora together stay small
INPUTS = 100  # a target: they are replayed whenever the tests run
LARGEST = 1_500  # bytes of an input


def keep(name: str) -> None:
    """Put a target's corpus into tests/corpora; what is there under a name of its own stays."""
    target = targets.load(name)
    place = corpus.KEPT / name
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spot-fuzz-") as scratch:
        folder = Path(scratch) / "corpus"
        shutil.copytree(corpus.WORK / name / "corpus", folder)
        # Edges only, not how often each is taken: a tenth of the inputs reach all of them.
        campaign.sum_up(target, folder, None, "-use_counters=0", "-set_cover_merge=1")
        for path in corpus.inputs(place):
            if not corpus.is_named(path):
                path.unlink()
        for path in _chosen(corpus.inputs(folder)):
            shutil.copy(path, place / path.name)


def _chosen(inputs: list[Path]) -> Iterator[Path]:
    """Of each mode in turn the largest, which get furthest, as far as there is room."""
    modes: dict[bytes, list[Path]] = defaultdict(list)
    for path in sorted(inputs, key=lambda one: one.stat().st_size, reverse=True):
        modes[path.read_bytes().partition(b"\n")[0]].append(path)
    room, count = MOST, 0
    for path in chain.from_iterable(zip_longest(*modes.values())):
        size = path.stat().st_size if path is not None else LARGEST + 1
        if size <= min(LARGEST, room) and count < INPUTS:
            room, count = room - size, count + 1
            yield path
