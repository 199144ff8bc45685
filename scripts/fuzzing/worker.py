"""A process that fuzzes one target or sums up a corpus: `… scripts.fuzzing.worker TARGET [libFuzzer's options]`.

The project's rooms are instrumented as they are imported, so nothing of them may be imported before.
"""

from __future__ import annotations

import shlex
import sys
import zlib

import atheris

ROOMS = ("agent", "backend_stub", "ble", "protocol")


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=list(ROOMS)):
        from scripts.fuzzing import mutation, targets

        target = targets.load(name)
    from scripts.fuzzing.target import listeners

    listeners.append(_noticed)
    # How libFuzzer starts another of this, to sum up.
    again = f"{shlex.quote(sys.executable)} -m {__spec__.name} {name}"
    with target.ready() as check:
        atheris.Setup([again, *options], check, custom_mutator=mutation.mutator(target.modes, _havoc))
        atheris.Fuzz()


_counters = [atheris._reserve_counter() for _ in range(1 << 12)]  # noqa: SLF001 - what instrumented branches have


def _noticed(what: str) -> None:
    """Count something that happened as a branch of its own."""
    atheris._trace_branch(_counters[zlib.crc32(what.encode()) % len(_counters)])  # noqa: SLF001


def _havoc(data: bytes, most: int) -> bytes:
    """Changes by libFuzzer itself; looked up at each call, as atheris puts them in place when fuzzing begins."""
    changed: bytes = atheris.Mutate(data, most)
    return changed


if __name__ == "__main__":
    main()
