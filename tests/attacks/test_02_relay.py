"""Attack 2: radio frames relayed both ways between two places within one epoch (arXiv 2006.05914). **Not prevented.**

The attacker needs a radio beside each of the two, a link between them, and both directions inside one epoch: a minute
of each other's frames. It need not be live: frames stored for minutes do as well, as long as both devices still hold
the keys that were answered. One way, or with the answer after the epoch's end, gains nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.street import EPOCH, FAR_AWAY, MINUTE, NEAR, Street, device, shared, start_of_epoch
from tests.end_to_end.people import world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.street import Antenna


def pass_on(source: Antenna, to: Antenna, power: float = 0.0) -> None:
    """Send here what was heard there last."""
    if source.caught:
        to.send(source.caught[-1].frame, power)


def store_and_forward(begin: float, delay_minutes: float, epoch: int = EPOCH) -> int:
    """The left one's frames are kept and sent beside the right one `delay_minutes` later, the answers as much later.

    begin: minutes into the epoch at which the recording starts. How many E both devices hold then.
    """
    street = Street()
    start_of_epoch(street.clock, epoch)
    street.clock.jump(begin * MINUTE)
    left, right = device(street.clock, 1, epoch=epoch), device(street.clock, 2, epoch=epoch)
    street.put(left, NEAR)
    street.put(right, FAR_AWAY)
    at_left, at_right = street.attack(NEAR), street.attack(FAR_AWAY)
    late = delay_minutes * MINUTE

    def forward(source: Antenna, to: Antenna, at: float) -> None:
        kept = [one for one in source.caught if one.at <= at - late]
        if kept:
            to.send(kept[-1].frame)

    at_right.act = lambda antenna, at: forward(at_left, antenna, at)
    at_left.act = lambda antenna, at: forward(at_right, antenna, at)
    street.walk(2 * delay_minutes + 2)
    street.leave()
    return len(shared(left, right))


async def test_a_live_relay_makes_a_contact_between_two_places(tmp_path: Path) -> None:
    async with world(tmp_path, ("infected", "victim"), settings={"risk.warn_at": 5}) as there:
        infected, victim = there.people.values()
        start_of_epoch(there.clock)
        street = Street(there.clock)
        street.put(infected, NEAR)
        street.put(victim, FAR_AWAY)
        at_infected, at_victim = street.attack(NEAR), street.attack(FAR_AWAY)
        at_victim.act = lambda antenna, at: pass_on(at_infected, antenna)
        at_infected.act = lambda antenna, at: pass_on(at_victim, antenna)
        street.walk(12)
        street.leave()
        await infected.sync()
        await victim.sync()
        there.clock.jump(2 * 3600)
        await infected.sync()
        await infected.declare(await there.code())
        await there.publish()
        await victim.sync()
        assert victim.warned, "if this fails, the relay is prevented: say so in docs/threat-model.md"


@pytest.mark.parametrize("delay", [0.1, 2, 5, 6])
def test_kept_for_minutes_within_the_epoch_it_is_a_contact_as_well(delay: float) -> None:
    assert store_and_forward(0, delay) == 1


@pytest.mark.parametrize("delay", [15, 20])
def test_the_answer_after_the_epoch_is_worth_nothing(delay: float) -> None:
    assert store_and_forward(0, delay) == 0


def test_if_keys_did_not_change_the_answer_could_come_much_later() -> None:
    assert store_and_forward(0, 20, epoch=86400) == 1


def test_one_way_gains_nothing() -> None:
    street = Street()
    start_of_epoch(street.clock)
    left, right = device(street.clock, 1), device(street.clock, 2)
    street.put(left, NEAR)
    street.put(right, FAR_AWAY)
    at_left = street.attack(NEAR)
    street.attack(FAR_AWAY, lambda antenna, at: pass_on(at_left, antenna))
    street.walk(10)
    street.leave()
    assert len(right.secrets) == 1, "the right one did hear the left one"
    assert not left.secrets
    assert not shared(left, right)
