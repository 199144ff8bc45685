"""Which lines and branches of the modules under fuzz a corpus reaches: `… scripts.fuzzing.covering TARGET FOLDER`.

Counted by coverage.py, as everybody counts; libFuzzer's own figure is of edges of all that was imported.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import warnings
from pathlib import Path

import coverage

from scripts.fuzzing import corpus

ROOMS = ["agent", "backend_stub", "ble", "protocol"]


def main() -> int:
    """Replay the folder and print the figures as JSON."""
    name, folder = sys.argv[1:]
    warnings.simplefilter("ignore", coverage.exceptions.CoverageWarning)  # not every target has all rooms
    # Lines are reached by being imported as well, so counting begins before the target is.
    counting = coverage.Coverage(branch=True, data_file=None, config_file=False, source_pkgs=ROOMS)
    counting.start()
    from scripts.fuzzing import targets

    target = targets.load(name)
    with target.ready() as check:
        for path in corpus.inputs(Path(folder)):
            check(path.read_bytes())
    counting.stop()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        counting.json_report(morfs=[_file_of(module) for module in target.modules], outfile=report.name)
        totals = json.loads(Path(report.name).read_bytes())["totals"]
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    print(json.dumps([totals[one] for one in names]))
    return 0


def _file_of(module: str) -> str:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SystemExit(f"there is no module {module}; mend the target's list")
    return found.origin


if __name__ == "__main__":
    raise SystemExit(main())
