"""What of a declared list takes long to check: functions of bytes, for a worker process.

Nothing in what they are given tells who declares: no code, no reply key.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from protocol import declaration, messages, parameters
from protocol.curve import open_curve
from protocol.declaration import Rules
from protocol.errors import SpotError
from protocol.messages import ContactRecord, DeclaredContact, Parameters, Show

if TYPE_CHECKING:
    from protocol.curve import G2
    from protocol.parameters import Keys


@dataclass(frozen=True, slots=True)
class Grounds:
    """What lists are checked by. curve: its maker; body: of the parameters' link; removed: (group, T~) of proxies."""

    curve: str
    body: bytes = b""
    removed: tuple[tuple[str, bytes], ...] = ()


def check_records(grounds: Grounds, records: bytes) -> bytes:
    """A reason (declaration.Reason), one byte, for each record of an encoded list."""
    decoded = msgspec.msgpack.decode(records, type=tuple[ContactRecord, ...])
    curve, rules = open_curve(grounds.curve), _rules(grounds)
    return bytes(declaration.signature_reasons(curve, secrets.token_bytes, rules, decoded))


def check_ownership(grounds: Grounds, issuer: int, contacts: bytes, digest: bytes, ownership: bytes) -> str:
    """Why it does not hold that one user owns all nullifiers of an encoded list; empty if it does."""
    try:
        declaration.check_ownership(
            open_curve(grounds.curve),
            secrets.token_bytes,
            _keys(grounds.curve, grounds.body).issuer(issuer),
            msgspec.msgpack.decode(contacts, type=tuple[DeclaredContact, ...]),
            digest,
            messages.decode(Show, ownership),
        )
    except SpotError as error:
        return error.text
    return ""


def get_ready(grounds: Grounds) -> None:
    """Have everything there that the first list would have to wait for."""
    _rules(grounds)


@lru_cache(maxsize=4)
def _keys(curve: str, body: bytes) -> Keys:
    return parameters.read_keys(open_curve(curve), messages.decode(Parameters, body))


@lru_cache(maxsize=4)
def _rules(grounds: Grounds) -> Rules:
    """Those of the rules that signatures are checked by."""
    curve = open_curve(grounds.curve)
    removed: dict[str, list[G2]] = defaultdict(list)
    for group, opening in grounds.removed:
        removed[group].append(curve.decode_g2(opening, "a removed proxy's opening key"))
    return Rules(_keys(grounds.curve, grounds.body).signers, removed, first_day=0, last_day=0, most=0)
