"""A mutant of the server that signs for a CCM with one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend_stub.server import matching

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from backend_stub.server.matching import Side


def signing_the_lone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out the rule that two different nullifiers must stand for a CCM."""

    def fixed_days(sides: Mapping[bytes, Side]) -> dict[bytes, int]:
        return {name: side.day for name, side in sides.items() if side.signed_day is None}

    monkeypatch.setattr(matching, "fixed_days", fixed_days)
