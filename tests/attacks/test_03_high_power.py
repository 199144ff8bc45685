"""Attack 3: a far device's frames caught with a high-gain antenna and sent again, loudly, beside the victim.

Both do hear each other, weakly, so the contact is a true one and gets signed; only its nearness is made up. An agent
declares only what was near by **its own** measurement, so being loud beside the victim is not enough: the attacker has
to be loud beside the infected one as well. Then it works; that part is **not prevented**.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import report
from protocol.errors import Refused
from tests.attacks.street import NEAR, Street, start_of_epoch
from tests.end_to_end.people import Person, world

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from tests.attacks.street import Antenna
    from tests.end_to_end.people import World

HALL = 60.0  # metres between the infected and the victim: 76 dB, heard and far
LOUD = -40.0  # dBm: sent right beside the antenna
NAMES = ("infected", "victim")
RISK: dict[str, object] = {"risk.warn_at": 5}


async def amplify(there: World, beside: Sequence[str]) -> Person:
    """Send each one's frames, loudly, beside those named; the infected then declares what it can. The victim."""
    infected, victim = there.people.values()
    places = {"infected": NEAR, "victim": (HALL, 0.0)}
    start_of_epoch(there.clock)
    street = Street(there.clock)
    for person in (infected, victim):
        street.put(person, places[person.name])
    ears = {name: street.attack(place, gain=20) for name, place in places.items()}

    def loud(antenna: Antenna, other: Antenna) -> None:
        beside_it = [one for one in other.caught[-2:] if one.rssi > LOUD]
        if beside_it:
            antenna.send(beside_it[-1].frame, power=20)

    for name in beside:
        (other,) = (ears[one] for one in NAMES if one != name)
        ears[name].act = lambda antenna, at, other=other: loud(antenna, other)  # type: ignore[misc]
    street.walk(14)
    street.leave()
    for _ in range(2):
        await infected.sync()
        await victim.sync()
        there.clock.jump(2 * 3600)
    assert [len(person.store.encounters()) for person in (infected, victim)] == [1, 1]
    try:
        await infected.declare(await there.code())
    except Refused:
        return victim  # nothing to declare
    await there.publish()
    await victim.sync()
    return victim


async def test_loud_beside_the_victim_only_gains_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, settings=RISK) as there:
        assert not (await amplify(there, ["victim"])).risks()


async def test_without_the_declarer_s_own_measurement_it_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "near_seconds", lambda encounter, risk: encounter.span)
    async with world(tmp_path, NAMES, settings=RISK) as there:
        assert (await amplify(there, ["victim"])).warned


async def test_loud_beside_both_makes_far_look_near(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, settings=RISK) as there:
        victim = await amplify(there, ["victim", "infected"])
        assert victim.warned, "if this fails, it is prevented: say so in docs/threat-model.md"


async def test_quiet_nobody_is_warned(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, settings=RISK) as there:
        assert not (await amplify(there, [])).risks()
