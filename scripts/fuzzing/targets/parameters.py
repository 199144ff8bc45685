"""What a proxy or a false authority hands out as parameters, and everything that an agent then works out by them.

Bodies are signed here with the chain's own key, so that changes get past the signature.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent import exposure, transport
from agent.commands import views
from agent.kept import Encounter, Exposure
from agent.samples import Sample
from protocol import chain, hashing, messages, parameters, publication
from protocol.errors import KeyChanged, Malformed, NotMine, Refused
from protocol.messages import Link, Parameters
from scripts.fuzzing.target import Target, by_mode, is_told_well, with_mode
from tests.support import DAY, ISSUER, NOW, world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protocol.parameters import Trusted

_WORLD = world_of("arkworks")
CURVE, BODY = _WORLD.curve, _WORLD.parameters
GENESIS = parameters.begin(_WORLD.genesis)
NEXT = replace(BODY, number=1, previous=GENESIS.head.hash)
TIMES = (0.0, float(NOW), 1e11)
USERS = {one.key for one in BODY.issuers}
GROUPS = {one.key for one in BODY.groups}
ENCOUNTER = Encounter(
    bytes(32),
    0,
    DAY,
    float(NOW),
    NOW + 1200.0,
    tuple(Sample(NOW + 5.0 * number, 127.5 * (number % 7) / 6) for number in range(0, 240, 3)),
)
LONE = Encounter(bytes(32), 1, DAY, float(NOW), float(NOW), (Sample(float(NOW), 0.0),))
NEVER = Encounter(bytes(32), 1, DAY, float(NOW), float(NOW), ())


def seeds() -> Iterator[bytes]:
    """A genesis, and what may come after it."""
    yield with_mode("genesis", messages.encode(BODY))
    yield with_mode("next", messages.encode(NEXT))
    risk = replace(NEXT.risk, bands=(), falloff=0.0)
    yield with_mode("next", messages.encode(replace(NEXT, risk=risk, roots=())))
    key = BODY.server_keys[0]
    ended = (replace(key, until_day=DAY), replace(BODY.server_keys[1], from_time=NOW + 5))
    groups = tuple(replace(one, until_day=DAY) for one in BODY.groups)
    yield with_mode("next", messages.encode(replace(NEXT, server_keys=ended, groups=groups)))
    yield with_mode("link", messages.encode(parameters.sign(_WORLD.chain_key, NEXT)))


def _link(data: bytes) -> None:
    """As it comes: only what the chain's key signed is followed."""
    try:
        found = parameters.advance(GENESIS, messages.decode(Link, data))
    except (Malformed, KeyChanged) as error:
        is_told_well(error)
        return
    assert found.parameters == NEXT, "somebody else's parameters"


def _genesis(body: bytes) -> None:
    try:
        trusted = parameters.begin(chain.sign(_WORLD.chain_key, hashing.PARAMETERS, body))
    except (Malformed, KeyChanged) as error:
        is_told_well(error)
        return
    assert trusted.parameters.number == 0
    _use(trusted, body)


def _next(body: bytes) -> None:
    try:
        trusted = parameters.advance(GENESIS, chain.sign(_WORLD.chain_key, hashing.PARAMETERS, body))
    except (Malformed, KeyChanged) as error:
        is_told_well(error)
        return
    assert (trusted.parameters.number, trusted.parameters.previous) == (1, GENESIS.head.hash)
    _use(trusted, body)


def _use(trusted: Trusted, body: bytes) -> None:
    """Everything that is worked out by parameters that were followed."""
    now = trusted.parameters
    assert trusted.head == messages.Head(number=now.number, hash=hashing.digest(hashing.PARAMETERS, body))
    assert messages.decode(Parameters, messages.encode(now)) == now
    assert views.plain(now.authority).isprintable()
    _read_keys(now)
    _times(now)
    _risk(now)
    try:
        transport.tls(now.roots)
    except Malformed as error:
        is_told_well(error)


def _read_keys(now: Parameters) -> None:
    try:
        keys = parameters.read_keys(CURVE, now)
    except (Malformed, Refused) as error:
        is_told_well(error)
        return
    assert {one.key for one in now.issuers} <= USERS, "a key without proof that its owner knows the secret"
    assert {one.key for one in now.groups} <= GROUPS, "a key without proof that its owner knows the secret"
    assert [keys.signers.servers[one.number].encode() for one in now.server_keys] == [
        one.key for one in now.server_keys
    ], "one encoding for one point"
    assert len(keys.issuers) == len(now.issuers)


def _times(now: Parameters) -> None:
    for at in TIMES:
        assert parameters.server_key_at(now, at) in now.server_keys
        try:
            parameters.check_validity(now, at)
        except KeyChanged as error:
            is_told_well(error)
    for number, day in ((ISSUER, DAY), (0, 0), (2**31, 10**6)):
        try:
            parameters.check_issuer_day(now, number, day)
        except (Refused, NotMine) as error:
            is_told_well(error)
        try:
            publication.key_of(now.publication_keys, number)
        except KeyChanged as error:
            is_told_well(error)
    for days in range(-31, 32):
        assert 0 <= parameters.infectiousness_level(now, DAY, DAY + days) <= len(now.risk.infectiousness)


def _risk(now: Parameters) -> None:
    """Whatever an authority says of risk, each exposure adds a number of minutes, and no day's sum is a surprise."""
    levels = (1, len(now.risk.infectiousness))
    found = [Exposure(one, level, 0) for one in (ENCOUNTER, LONE, NEVER) for level in levels]
    for risk in exposure.day_risks(found, now.risk):
        assert math.isfinite(risk.score)
        assert 0 <= risk.score <= len(found) * 20 * 100 * 100 + 1
        assert 0 <= risk.minutes <= len(found) * 1201 / 60
    for encounter in (ENCOUNTER, LONE, NEVER):
        assert 0 <= exposure.near_seconds(encounter, now.risk) <= 1201 * 100
        assert len(exposure.band_seconds(encounter.samples, now.risk)) == len(now.risk.bands)


CHECKS = {"link": _link, "genesis": _genesis, "next": _next}

TARGET = Target(
    name="parameters",
    about="links of the parameters, signed by the chain's key or not, and all that an agent does by them",
    modules=("protocol.parameters", "protocol.chain", "agent.exposure", "agent.nearness"),
    modes=tuple(CHECKS),
    seeds=seeds,
    ready=lambda: by_mode(CHECKS),
    longest=16_384,
)
