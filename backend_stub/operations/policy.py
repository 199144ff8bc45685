"""What an authority fixes for everybody, as people set it: limits, risk and infectiousness, by dotted name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from backend_stub.operations.presets import PRESETS, preset
from protocol import messages
from protocol.errors import Misuse
from protocol.messages import (
    Limits,
    OnsetLevel,
    Parameters,
    Risk,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


LIMITS = Limits(
    epoch=900,
    minimum=60,
    first_seen_days=3,
    ask_days=4,
    retention_days=14,
    clock_tolerance=180,
    contacts=4096,
    floor=64,
    delay=600,
    retry_first=3600,
    retry_last=43200,
    submission_gap=900,
    declaration_gap=14400,
    submissions=2000,
)
RISK, ONSET = PRESETS["spot"].risk, PRESETS["spot"].onset


PRESET = "risk"


class Policy(messages.Message, frozen=True, kw_only=True):
    """The part of the parameters that people set."""

    limits: Limits = LIMITS
    risk: Risk = RISK
    onset: tuple[OnsetLevel, ...] = ONSET


def changed(policy: Policy, changes: Mapping[str, Any]) -> Policy:
    """The policy with values by dotted name, such as `limits.epoch`, replaced. Raises Misuse, naming the field.

    `risk` by itself names a preset, which other changes then refine.
    """
    values = msgspec.to_builtins(policy)
    if isinstance(name := changes.get(PRESET), str):
        chosen = preset(name)
        values |= {"risk": msgspec.to_builtins(chosen.risk), "onset": msgspec.to_builtins(chosen.onset)}
        changes = {name: value for name, value in changes.items() if name != PRESET}
    for name, value in changes.items():
        *path, last = name.split(".")
        inside = values
        for step in path:
            inside = inside.get(step) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            raise Misuse(f"there is no parameter {name!r}; there are {', '.join(_names(msgspec.to_builtins(policy)))}")
        inside[last] = value
    try:
        return msgspec.convert(values, Policy)
    except ValueError as error:  # of its own kind, or of text that is none
        raise Misuse(f"the parameters would make no sense: {error}") from None


def policy_of(now: Parameters) -> Policy:
    """What of these parameters people set."""
    return Policy(limits=now.limits, risk=now.risk, onset=now.onset)


def with_changes(now: Parameters, changes: Mapping[str, Any]) -> Parameters:
    """Parameters with values by dotted name replaced. Raises Misuse."""
    fresh = changed(policy_of(now), changes)
    return msgspec.structs.replace(now, limits=fresh.limits, risk=fresh.risk, onset=fresh.onset)


def _names(values: Mapping[str, Any], before: str = "") -> Iterable[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _names(value, f"{before}{name}.")
        else:
            yield before + name
