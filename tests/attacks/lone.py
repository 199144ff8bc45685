"""A mutant of the server that signs for a CCM with one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend_stub.server import Matches

if TYPE_CHECKING:
    import pytest


def signing_the_lone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out the rule that two different nullifiers must stand for a CCM."""

    def fix(self: Matches) -> None:
        for nullifier, side in self.sides.items():
            if side.signed_day is None:
                side.signed_day = side.day
                self.fixed.add(nullifier)

    monkeypatch.setattr(Matches, "_fix", fix)
