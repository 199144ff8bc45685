"""Out of the frames of many strangers, the blocks that were really broadcast.

Anyone can send frames, so nothing here is trusted and everything is bounded:

- Frames are grouped by key id, never by address. A block counts once three of its slices hash to its key id.
- A key id keeps several candidates for each slice, so that a forged frame cannot stand in a true one's way.
- A key id can be shared on purpose (2^30 hashes find a second block), so a frame is only taken for a block
  that holds its very slice, and one key id may have several blocks: the least heard makes room.
- Trials are bounded too, and come back with time; what was heard most often is tried first.
- The table has two halves. Newcomers push out the newcomers longest unheard; only a key id heard more often
  pushes out a regular one. A flood of forged key ids thus runs through the first half and leaves the second.

What remains possible: whoever sends forged slices under one key id, faster than its owner sends true ones,
hides that owner for as long. A jammer can do the same to everybody, with less effort.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

from ble.frame import SLICES, Block, Frame, FrameError, carousel, join, key_id

CANDIDATES = 4  # slices kept for each index of a key id
TRIALS = 256  # of three slices, for each key id: all that 4 candidates at 4 indices allow, 4 · 4^3
BLOCKS = 4  # verified blocks kept for each key id, for as long as it is
REGULAR = 3  # frames until a key id is no newcomer: the fewest that a block is rebuilt from
CAPACITY = 4096  # key ids; at worst about 2 kB each
LIFETIME = 300.0  # seconds unheard until a key id is forgotten
REFILL = TRIALS / 60.0  # trials a second that come back, as forged ones would else silence it for its epoch


@dataclass(slots=True)
class _Verified:
    """A block that was put together, and how many of its frames were heard since."""

    block: Block
    frames: tuple[Frame, ...]
    heard: int = 0


@dataclass(slots=True)
class _Entry:
    """What is known of one key id: candidates (slice → times heard) for each index, and what they gave.

    trials: used up, and not come back yet
    """

    last: float
    heard: int = 0
    trials: float = 0.0
    candidates: tuple[dict[bytes, int], ...] = field(default_factory=lambda: tuple({} for _ in range(SLICES)))
    blocks: list[_Verified] = field(default_factory=list)


class Assembler:
    """Takes frames as they are heard; gives the block that a frame belongs to as soon as it is verified."""

    def __init__(self, *, capacity: int = CAPACITY, lifetime: float = LIFETIME) -> None:
        """Make an empty table for `capacity` key ids (2 or more), forgotten `lifetime` seconds unheard."""
        if capacity < 2:
            raise ValueError("an assembler needs room for 2 key ids or more")
        self._room = capacity // 2  # of each half
        self._lifetime = lifetime
        # Both in the order last heard, so that what is to expire stands in front. (A key id that lost its
        # place among the regular ones joins the newcomers as if just heard: a second chance.)
        self._newcomers: OrderedDict[int, _Entry] = OrderedDict()
        self._regulars: OrderedDict[int, _Entry] = OrderedDict()
        # No regular one was heard less often than this: who was not heard more need not be compared with all of them.
        self._least = 0

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._regulars)

    def add(self, frame: Frame, at: float) -> Block | None:
        """Take a frame heard at `at` (Unix seconds); return the verified block it is a slice of, or None.

        None means "not yet" as well as "forged": the frames before the third are told apart only afterwards.
        """
        self.expire(at)
        entry = self._entry(frame.key_id, at)
        for known in entry.blocks:
            if known.frames[frame.index].slice == frame.slice:
                known.heard += 1
                return known.block
        _remember(entry, frame)
        return _rebuild(entry, frame)

    def expire(self, at: float) -> None:
        """Forget the key ids unheard for a lifetime before `at` (Unix seconds)."""
        self.forget(at - self._lifetime)

    def forget(self, before: float) -> None:
        """Forget the key ids not heard since then (Unix seconds): their blocks are known not to be sent any more."""
        for half in (self._newcomers, self._regulars):
            while half and next(iter(half.values())).last < before:
                half.popitem(last=False)

    def _entry(self, name: int, at: float) -> _Entry:
        half = self._regulars if name in self._regulars else self._newcomers
        entry = half.pop(name, None)
        if entry is None:
            entry = _Entry(last=at)
        entry.trials = max(entry.trials - max(at - entry.last, 0.0) * REFILL, 0.0)
        entry.last = at
        entry.heard += 1
        half[name] = entry
        if half is self._newcomers:
            self._promote(name, entry)
        if len(self._newcomers) > self._room:
            self._newcomers.popitem(last=False)
        return entry

    def _promote(self, name: int, entry: _Entry) -> None:
        if entry.heard < REGULAR:
            return
        if len(self._regulars) >= self._room:
            if self._least >= entry.heard:
                return
            least = min(self._regulars, key=lambda other: self._regulars[other].heard)
            self._least = self._regulars[least].heard
            if self._least >= entry.heard:
                return
            self._newcomers[least] = self._regulars.pop(least)
        self._least = min(self._least, entry.heard)
        self._regulars[name] = self._newcomers.pop(name)


def _remember(entry: _Entry, frame: Frame) -> None:
    """Keep the slice as a candidate."""
    candidates = entry.candidates[frame.index]
    if frame.slice not in candidates and len(candidates) == CANDIDATES:
        # Forged slices that vary go first: what is heard again and again stays.
        del candidates[min(candidates, key=lambda known: candidates[known])]
    candidates[frame.slice] = candidates.get(frame.slice, 0) + 1


def _rebuild(entry: _Entry, frame: Frame) -> Block | None:
    """Try the slice with every two candidates at two other indices, what was heard most often first.

    Also where it was heard before: there may have been no trials left, or forged slices in the way.
    """
    others = [index for index in range(SLICES) if index != frame.index]
    for left, right in itertools.combinations(others, 2):
        for one, two in itertools.product(_by_heard(entry.candidates[left]), _by_heard(entry.candidates[right])):
            if entry.trials > TRIALS - 1:
                return None
            entry.trials += 1
            data = join({frame.index: frame.slice, left: one, right: two})
            if key_id(data) == frame.key_id and (block := _settle(entry, data)):
                return block
    return None


def _by_heard(candidates: dict[bytes, int]) -> list[bytes]:
    return sorted(candidates, key=lambda known: candidates[known], reverse=True)


def _settle(entry: _Entry, data: bytes) -> Block | None:
    """Note the verified block, and let go of the candidates that were its slices."""
    try:
        frames = carousel(data)
    except FrameError:
        return None  # its hash is right, yet its sender made no block of it
    block = Block.decode(data)
    if len(entry.blocks) == BLOCKS:
        entry.blocks.remove(min(entry.blocks, key=lambda known: known.heard))
    entry.blocks.append(_Verified(block, frames))
    for known, candidates in zip(frames, entry.candidates, strict=True):
        candidates.pop(known.slice, None)
    return block
