"""The command `spot`, which tells its tester the secret of each epoch's key: `python -m tests.confiding ARGUMENTS`.

A copy of the process says it, made for that and gone at once, so that telling leaves no trace in this one's memory.
"""

from __future__ import annotations

import os
import sys

from agent import __main__, service
from protocol import encounter

made = encounter.EpochKey.__init__


def confide(self: encounter.EpochKey, seed: object) -> None:
    """Make the key, and have a copy of the process say what its secret is."""
    made(self, seed)  # type: ignore[arg-type]
    if (copy := os.fork()) == 0:
        assert self._secret
        os.write(sys.stdout.fileno(), b"epoch " + self._secret.private_bytes_raw().hex().encode() + b"\n")
        os._exit(0)
    os.waitpid(copy, 0)


if __name__ == "__main__":
    encounter.EpochKey.__init__ = confide  # type: ignore[method-assign]
    service.FLUSH = 0.2
    __main__.main()
