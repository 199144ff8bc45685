"""Makes all vectors of tests/vectors but those of frames: scripts/vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocol.curve import open_curve
from tests.protocol_vectors.kinds import outcome
from tests.protocol_vectors.source import Stream

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values

FOLDER = Path(__file__).parent.parent / "vectors"


@dataclass
class File:
    """One file of vectors in the making."""

    about: str
    curve: Curve = field(default_factory=open_curve)
    vectors: list[Values] = field(default_factory=list)

    def gives(self, kind: str, name: str, **given: Any) -> Values:
        """Add a vector that must be accepted; returns what it gives."""
        result = outcome(self.curve, kind, given)
        values: Values | None = result.get("gives")
        if values is None:
            raise ValueError(f"{kind}, {name}: {result}")
        self.vectors.append({"kind": kind, "name": name, "given": given, "gives": values})
        return values

    def refuses(self, kind: str, name: str, slug: str, **given: Any) -> None:
        """Add a vector that must be refused; the name says why."""
        result = outcome(self.curve, kind, given)
        if result != {"refused": slug}:
            raise ValueError(f"{kind}, {name}: {result}")
        self.vectors.append({"kind": kind, "name": name, "given": given, "refused": slug})

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps({"about": self.about, "vectors": self.vectors}, indent=1) + "\n"


def stream(name: str) -> Stream:
    """The random bytes of the vectors of this name; each its own, so that a new vector changes no other."""
    return Stream(f"SPOT test vectors: {name}".encode())
