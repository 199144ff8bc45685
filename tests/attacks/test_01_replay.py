"""Attack 1: an EBID is recorded and sent again, minutes later or elsewhere (ePrint 2020/399).

The attacker has antennas beside an infected device and beside a victim in another town, and replays one way. The victim
hears an EBID whose owner never hears it back: it has half of a contact, which the server does not sign. Sent again
after the epoch, both ways, it finds other keys than the ones it was answered with.

A true short contact can be drawn out: **not prevented** within its epoch. Who met for a minute holds the same secret,
and the frames of the one who left, replayed beside the other, go on counting there. If the one who left declares, the
other side reckons with up to a quarter of an hour near by. What the one who left measured stays a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.exposure import near_seconds
from agent.kept import State
from ble.frame import carousel
from tests.agent import joined
from tests.attacks.lone import signing_the_lone
from tests.attacks.street import EPOCH, FAR_AWAY, MINUTE, NEAR, Street, device, shared, start_of_epoch
from tests.end_to_end.people import Person, world

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.attacks.street import Antenna
    from tests.end_to_end.people import World


def replay_to(victims: Antenna, recorder: Antenna) -> None:
    """Send all that was recorded, again and again, a frame a step."""
    if recorder.caught:
        replayed = recorder.caught[len(victims.caught) % len(recorder.caught)]
        victims.send(replayed.frame, power=0.0)


async def replay(there: World) -> Person:
    """Record the infected, replay beside the victim in the same epoch; the infected then declares. The victim."""
    infected, friend, victim = there.people.values()
    start_of_epoch(there.clock)
    street = Street(there.clock)
    street.put(infected, NEAR)
    street.put(friend, (1.0, 0.0))
    street.put(victim, FAR_AWAY)
    recorder = street.attack(NEAR)
    street.walk(3)
    street.attack(FAR_AWAY, lambda antenna, at: replay_to(antenna, recorder))
    street.walk(10)
    street.leave()
    for person in (infected, friend, victim):
        await person.sync()
    there.clock.jump(2 * 3600)
    await infected.sync()  # it may have been the first of the two
    await infected.declare(await there.code())
    await there.publish()
    await victim.sync()
    await friend.sync()
    assert friend.warned, "the infected did declare, and a true contact hears of it"
    return victim


async def test_a_replayed_ebid_is_no_contact(tmp_path: Path) -> None:
    async with world(tmp_path, ("infected", "friend", "victim"), settings={"risk.warn_at": 5}) as there:
        victim = await replay(there)
        assert State.PENDING in victim.states(), "the attack did reach the victim's agent"
        assert State.SIGNED not in victim.states()
        assert not victim.warned
        assert not victim.risks()


async def test_where_the_server_signs_for_one_side_it_is_a_contact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing_the_lone(monkeypatch)
    async with world(tmp_path, ("infected", "friend", "victim"), settings={"risk.warn_at": 5}) as there:
        victim = await replay(there)
        assert State.SIGNED in victim.states()


def replay_in_the_next_epoch(epoch: int) -> bool:
    """Record both for the length of an EPOCH, then replay each to the other. Whether both share E."""
    street = Street()
    start_of_epoch(street.clock)
    left, right = device(street.clock, 1, epoch=epoch), device(street.clock, 2, epoch=epoch)
    street.put(left, NEAR)
    street.put(right, FAR_AWAY)
    at_left, at_right = street.attack(NEAR), street.attack(FAR_AWAY)
    street.walk(EPOCH / MINUTE)
    heard_left, heard_right = list(at_left.caught), list(at_right.caught)
    at_left.act = lambda antenna, at: antenna.send(heard_right[int(at) // 2 % 4].frame)
    at_right.act = lambda antenna, at: antenna.send(heard_left[int(at) // 2 % 4].frame)
    street.walk(5)
    street.leave()
    assert left.secrets
    assert right.secrets
    return bool(shared(left, right))


def test_what_was_recorded_is_worth_nothing_in_the_next_epoch() -> None:
    assert not replay_in_the_next_epoch(EPOCH)


def test_if_keys_did_not_change_the_record_would_be_worth_a_contact() -> None:
    assert replay_in_the_next_epoch(86400)


# --- a true contact, drawn out ---


def drawn_out(replayed: bool) -> tuple[float, float]:
    """Two are together for 70 seconds; then one leaves, and is replayed beside the other. Minutes near, by both."""
    street = Street()
    start_of_epoch(street.clock)
    stays, leaves = device(street.clock, 1), device(street.clock, 2)
    street.put(stays, NEAR)
    street.put(leaves, (1.0, 0.0))
    antenna = street.attack((0.0, 0.5))
    street.walk(70 / MINUTE)
    street.put(leaves, FAR_AWAY)
    theirs = carousel(street.on_air(leaves).block)
    if replayed:
        antenna.act = lambda antenna, at: antenna.send(theirs[int(at) // 2 % 4], power=-10.0)
    street.walk(13)
    street.leave()
    (secret,) = shared(stays, leaves)
    risk = joined.world().parameters.risk
    (one,) = (met for met in stays.encounters if met.secret == secret)
    (other,) = (met for met in leaves.encounters if met.secret == secret)
    return near_seconds(one, risk) / MINUTE, near_seconds(other, risk) / MINUTE


def test_a_minute_together_can_be_drawn_out_on_one_side() -> None:
    short, same = drawn_out(replayed=False)
    assert short == same < 3
    long, other = drawn_out(replayed=True)
    assert long > 12, "if this fails, it is prevented: tell the docs"
    assert other == same
