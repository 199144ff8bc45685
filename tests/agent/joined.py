"""A device that has joined the test world's authority, as the store keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent import account
from agent.kept import Encounter
from agent.samples import Sample
from agent.store import create_store
from protocol import messages, parameters
from protocol.curve import encode_scalar
from protocol.encounter import day_of
from tests.agent.clocks import NOON
from tests.support import ISSUER, Source, World, world_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.store import Store

NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers (the discard port)."""

INVITATION = "INVITATION-TO-ALICE"


def world() -> World:
    """The world all these tests share."""
    return world_of("arkworks")


def link_of(*proxies: Sequence[str], minimum: int = 60, epoch: int = 900, **limits: int) -> messages.Link:
    """The authority's genesis, with these proxies in the groups; the last ones in all further groups."""
    here = world()
    given = proxies or ((NOWHERE,),)
    groups = tuple(
        msgspec.structs.replace(group, proxies=tuple(given[min(index, len(given) - 1)]))
        for index, group in enumerate(here.parameters.groups)
    )
    changes = {"minimum": minimum, "epoch": epoch, **limits}
    changed = msgspec.structs.replace(
        here.parameters, groups=groups, limits=msgspec.structs.replace(here.parameters.limits, **changes)
    )
    return parameters.sign(here.chain_key, changed)


def join(store: Store, link: messages.Link | None = None, url: str = NOWHERE) -> None:
    """Put into the store what joining puts there, for alice."""
    link = link or link_of()
    trusted = parameters.begin(link)
    alice = world().alice
    account.keep_trusted(store, trusted, link)
    membership = account.Membership(
        url=url,
        genesis=trusted.head.hash,
        issuer=ISSUER,
        secret=encode_scalar(alice.credential.secret),
        invitation=INVITATION,
        request=messages.encode(messages.UserJoin(invitation=INVITATION, issuer=ISSUER, join=alice.request)),
        issued=alice.issued,
    )
    store.put(account.MEMBERSHIP, membership)


def move_on(store: Store, **other: object) -> None:
    """Let the authority sign new parameters, with other fields if given, and the device follow them."""
    before = account.read_trusted(store)
    link_up = {"number": before.head.number + 1, "previous": before.head.hash}
    changed = msgspec.structs.replace(before.parameters, **link_up, **other)
    link = parameters.sign(world().chain_key, changed)
    account.keep_trusted(store, parameters.advance(before, link), link)


def make_store(folder: Path) -> Store:
    """A fresh store with its key in a file."""
    return create_store(folder, "file", Source("store key"))


def met(name: str = "peer", *, first: float = NOON, span: float = 120.0, attenuation: float = 50.0) -> Encounter:
    """An encounter under way, with a sample every five seconds."""
    samples = tuple(Sample(first + at, attenuation) for at in range(0, int(span) + 1, 5))
    return Encounter(Source(name)(32), 0, day_of(first), first, first + span, samples)
