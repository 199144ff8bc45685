"""The targets, one module each; imported one at a time, as what is imported under atheris is instrumented."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.fuzzing.target import Target

NAMES = (
    "frame",
    "messages",
    "records",
    "makers",
    "reports",
    "publications",
    "parameters",
    "http",
    "answers",
    "files",
    "typed",
)


def load(name: str) -> Target:
    """The target of this name."""
    target: Target = importlib.import_module(f"{__name__}.{name}").TARGET
    return target
