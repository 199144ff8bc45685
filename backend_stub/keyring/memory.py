"""Keeping what this process has in memory off the disk and from other programs of the same user; wiping it.

Only what is in a buffer of our own can be wiped. docs/threat-model.md names what that is, and what it is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

_PR_SET_DUMPABLE = 4  # of <linux/prctl.h>


def keep_off_disk() -> None:
    """Have no core dumps written, and nobody else but root look into this process's memory; each process for itself.

    Swap is not in a program's hands: the systemd units forbid it; elsewhere it has to be encrypted.
    """
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):  # forbidden by systemd's filter, which has set it itself
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit alone does not hold where dumps go to a program, such as systemd-coredump.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def wipe(buffer: bytearray) -> None:
    """Overwrite it with zeros."""
    buffer[:] = bytes(len(buffer))
