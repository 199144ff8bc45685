"""Where the command `spot` begins."""

from __future__ import annotations

from typing import NoReturn

import setproctitle

from agent import memory


def main() -> NoReturn:
    """Run the command, after hiding what was typed: codes and invitations must not stand in the process list."""
    setproctitle.setproctitle("spot")
    memory.keep_off_disk()
    from agent import cli  # takes a moment, in which they would

    cli.main()


if __name__ == "__main__":
    main()
