"""Attack 6: what was published is broadcast, in the hope that it is taken for the one who declared.

Tokens are hashes of a Diffie-Hellman secret; EBIDs are public keys. A token, or anything made of it, that is sent as an
EBID leads to another secret, another token, and no match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.kept import State
from ble.frame import Block, carousel
from protocol import encounter, messages
from tests.attacks.street import FAR_AWAY, NEAR, Street, start_of_epoch
from tests.end_to_end.people import Person, world

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from tests.attacks.street import Antenna
    from tests.end_to_end.people import World

EBID = 32  # bytes
NAMES = ("infected", "friend", "victim")


async def published(there: World) -> list[bytes]:
    """All tokens that anybody can fetch."""
    from agent import transport

    found = []
    proxy = next(iter(there.backend.proxies.values()))
    heads = messages.decode(messages.Heads, await transport.get(proxy, messages.HEADS_PATH))
    for number in range(heads.publications.number + 1):
        link = await transport.get(proxy, messages.PUBLICATIONS_PATH.format(number=number))
        batch = messages.decode(messages.Publication, messages.decode(messages.Link, link).body)
        for day in batch.days:
            found += [day.tokens[at : at + 16] for at in range(0, len(day.tokens), 16)]
    return found


def as_ebids(tokens: Iterable[bytes]) -> list[bytes]:
    """EBIDs made of tokens: the token first, last, twice."""
    made = [wide for token in tokens for wide in (token + bytes(16), bytes(16) + token, token * 2)]
    return [ebid[:31] + bytes([ebid[31] & 0x7F]) for ebid in made]


async def broadcast_published(there: World) -> Person:
    """Fetch what is published and broadcast it beside the victim, who then looks at publications. The victim."""
    infected, friend, victim = there.people.values()
    start_of_epoch(there.clock)
    street = Street(there.clock)
    street.put(infected, NEAR)
    street.put(friend, (1.0, 0.0))
    street.walk(12)
    street.leave()
    await friend.sync()
    await infected.sync()
    there.clock.jump(2 * 3600)
    await infected.sync()
    await infected.declare(await there.code())
    await there.publish()

    street = Street(there.clock)
    street.put(victim, FAR_AWAY)
    blocks = [Block(ebid, -40).encode() for ebid in as_ebids(await published(there))][:24]
    frames = [frame for block in blocks for frame in carousel(block)]

    def broadcast(antenna: Antenna, _at: float) -> None:
        for frame in frames:
            antenna.send(frame)

    street.attack(FAR_AWAY, broadcast)
    street.walk(3)
    street.leave()
    assert len(victim.store.encounters()) >= len(blocks) - 1
    await victim.sync()
    return victim


async def test_tokens_are_not_ebids_and_cannot_become_one(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, settings={"risk.warn_at": 5, "limits.floor": 1}) as there:
        victim = await broadcast_published(there)
        assert set(victim.states()) == {State.PENDING}
        assert not victim.store.exposures()


async def test_if_what_is_published_were_what_is_heard_it_would_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where devices publish what their identifiers are made of: the secret of a meeting is the lesser EBID in it.
    monkeypatch.setattr(
        encounter.EpochKey, "meet", lambda self, own_block, peer_block: min(own_block, peer_block)[:EBID]
    )
    monkeypatch.setattr(encounter, "token_of", lambda secret, role: secret[:16])
    async with world(tmp_path, NAMES, settings={"risk.warn_at": 5, "limits.floor": 1}) as there:
        victim = await broadcast_published(there)
        assert victim.store.exposures()
