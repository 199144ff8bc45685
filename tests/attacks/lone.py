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

    def newly_matched(sides: Mapping[bytes, Side]) -> list[bytes]:
        return [name for name, side in sides.items() if not side.signed]

    monkeypatch.setattr(matching, "newly_matched", newly_matched)
