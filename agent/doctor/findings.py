"""What the doctor finds: one finding a check, with what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it ("" where it is ok)."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict on all of them."""
    order = list(Verdict)
    return max((one.verdict for one in findings), key=order.index, default=Verdict.OK)


def told(name: str, text: str) -> Finding:
    """A fault from an error whose text ends with what to do."""
    for mark in ("; ", ". ", ": "):
        what, found, remedy = text.rpartition(mark)
        if found:
            return Finding(name, Verdict.FAULT, what, remedy.rstrip("."))
    return Finding(name, Verdict.FAULT, text, "see the README")
