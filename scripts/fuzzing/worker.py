"""A process that fuzzes one target or sums up a corpus: `… scripts.fuzzing.worker TARGET [libFuzzer's options]`.

The project's rooms are instrumented as they are imported, so nothing of them may be imported before.
"""

from __future__ import annotations

import shlex
import sys

import atheris

ROOMS = ("agent", "backend_stub", "ble", "protocol")


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=list(ROOMS)):
        from scripts.fuzzing import mutation, targets

        target = targets.load(name)
    # How libFuzzer starts another of this, to sum up.
    again = f"{shlex.quote(sys.executable)} -m {__spec__.name} {name}"
    with target.ready() as check:
        atheris.Setup([again, *options], check, custom_mutator=mutation.mutator(target.modes, _havoc))
        atheris.Fuzz()


def _havoc(data: bytes, most: int) -> bytes:
    """Changes by libFuzzer itself; looked up at each call, as atheris puts them in place when fuzzing begins."""
    changed: bytes = atheris.Mutate(data, most)
    return changed


if __name__ == "__main__":
    main()
