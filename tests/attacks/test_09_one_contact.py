"""Attack 9: a device that meets exactly one person learns, if it is warned, that this person declared. **Inherent.**

Whoever is warned can think about whom they met. An attacker makes it easy by switching the device on for one meeting
only. What limits it: a meeting shorter than the minimum is not submitted, and whoever was not near by the declarer's
own measurement is not declared; so it takes what a true contact takes, a meeting a suspect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.kept import State
from protocol.errors import Refused
from tests.attacks.street import NEAR, Street, start_of_epoch
from tests.end_to_end.people import Person, world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.people import World

NAMES = ("suspect", "curious")


async def meet_once(there: World, minutes: float, metres: float = 1.0) -> Person:
    """Be switched on beside one suspect only; who then declares what can be. The curious one."""
    suspect, curious = there.people.values()
    start_of_epoch(there.clock)
    street = Street(there.clock)
    street.put(suspect, NEAR)
    street.put(curious, (metres, 0.0))
    street.walk(minutes)
    street.leave()
    for _ in range(2):
        await suspect.sync()
        await curious.sync()
        there.clock.jump(2 * 3600)
    try:
        await suspect.declare(await there.code())
    except Refused:
        return curious
    await there.publish()
    await curious.sync()
    return curious


async def test_who_met_one_person_only_learns_who_it_was(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES) as there:
        assert (await meet_once(there, 12)).store.exposures(), "inherent; if this fails, tell the docs"


async def test_a_short_meeting_tells_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES) as there:
        curious = await meet_once(there, 0.9)
        assert not curious.store.exposures()
        assert State.SIGNED not in curious.states()


async def test_without_the_minimum_a_glance_would_do(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, settings={"limits.minimum": 0}) as there:
        assert (await meet_once(there, 0.9)).store.exposures()


async def test_a_far_meeting_tells_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES) as there:
        curious = await meet_once(there, 12, metres=60)
        assert curious.states() == [State.SIGNED]
        assert not curious.store.exposures()
