"""Every vector of tests/vectors with both curve makers; frames have their own test, in tests/ble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.curve import MAKERS, open_curve
from tests.protocol_vectors.kinds import outcome

FILES = sorted(path for path in (Path(__file__).parent / "vectors").glob("*.json") if path.name != "frame.json")
VECTORS = [
    pytest.param(vector, id=f"{path.stem}: {vector['kind']}: {vector['name']}")
    for path in FILES
    for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]
]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("vector", VECTORS)
def test_vector(vector: dict[str, Any], maker: str) -> None:
    expected = {name: vector[name] for name in ("gives", "refused") if name in vector}
    assert outcome(open_curve(maker), vector["kind"], vector["given"]) == expected
