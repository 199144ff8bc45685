"""A process that had keys for some epochs: `python -m tests.attacks.remembering EPOCHS [keeping]`.

It prints a line when they are alive and one when they are destroyed, and waits for one after each.
"""

from __future__ import annotations

import hashlib
import sys

from agent.epochs import Epochs
from protocol import encounter

PEER = encounter.EpochKey(hashlib.sha256(b"peer").digest()).ebid + bytes([1, 0, 0, 0])


def seed_of(epoch: int) -> bytes:
    """What the process made the key of this epoch from."""
    return hashlib.sha256(b"epoch %d" % epoch).digest()


def live(count: int) -> None:
    """Have keys, meet somebody with each, destroy them."""
    seeds = iter(range(count))

    def random(size: int) -> bytes:  # as random.SystemRandom does it
        return int.from_bytes(seed_of(next(seeds)), "big").to_bytes(size, "big")

    epochs = Epochs(900, 0, random)
    for number in range(count):
        own = epochs.fresh(900.0 * number)
        own.key.meet(own.block, PEER)
    _wait("alive")
    epochs.destroy_all()
    del own
    _wait("destroyed")


def _wait(said: str) -> None:
    sys.stdout.write(said + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    if "keeping" in sys.argv:
        encounter.EpochKey.destroy = lambda self: kept.append(self)  # type: ignore[method-assign]
        kept: list[encounter.EpochKey] = []
    live(int(sys.argv[1]))
