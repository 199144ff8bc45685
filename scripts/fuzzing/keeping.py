"""What of a corpus goes into the repository: the fewest and smallest inputs that reach as much, and no large ones."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from scripts.fuzzing import campaign, corpus, targets

MOST = 24_000  # bytes a target: all corpora together stay small enough to be read
LARGEST = 4_000  # bytes of an input


def keep(name: str) -> None:
    """Put a target's corpus into tests/corpora, with what is kept there under a name of its own."""
    target = targets.load(name)
    place = corpus.KEPT / name
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spot-fuzz-") as scratch:
        folder = Path(scratch) / "corpus"
        shutil.copytree(corpus.WORK / name / "corpus", folder)
        # Edges only, not how often each is taken: a tenth of the inputs reach all of them.
        campaign.sum_up(target, folder, None, "-use_counters=0", "-set_cover_merge=1")
        for path in place.iterdir():
            if not corpus.is_named(path):
                path.unlink()
        room = MOST
        for path in sorted(corpus.inputs(folder), key=lambda one: one.stat().st_size):
            size = path.stat().st_size
            if size <= LARGEST and size <= room:
                room -= size
                shutil.copy(path, place / path.name)
