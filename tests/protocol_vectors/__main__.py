"""Command line of scripts/vectors."""

from __future__ import annotations

import argparse

from protocol.curve import open_curve
from tests.protocol_vectors.make_arithmetic import make_credential, make_hashing, make_points
from tests.protocol_vectors.make_chains import make_chains
from tests.protocol_vectors.make_contact import make_contact, make_encounter
from tests.protocol_vectors.make_declaration import make_declaration
from tests.protocol_vectors.make_messages import make_messages
from tests.protocol_vectors.making import FOLDER

FILES = {
    "hashing": make_hashing,
    "points": make_points,
    "credential": make_credential,
    "encounter": make_encounter,
    "contact": make_contact,
    "declaration": make_declaration,
    "messages": make_messages,
    "chains": make_chains,
}


def main() -> int:
    """Make every file anew, or see whether it would come out the same."""
    parser = argparse.ArgumentParser(prog="scripts/vectors", description="Make the test vectors in tests/vectors anew.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if anything would change")
    options = parser.parse_args()
    curve, changed = open_curve(), 0
    for name, make in FILES.items():
        file, path = make(curve), FOLDER / f"{name}.json"
        same = path.exists() and path.read_text(encoding="utf-8") == file.text
        changed += not same
        if not options.check:
            path.write_text(file.text, encoding="utf-8")
        print(f"{path.name}: {len(file.vectors)} vectors, {'as they were' if same else 'changed'}")
    return int(options.check and changed > 0)


raise SystemExit(main())
