"""Attack 22: the band is jammed. **Not prevented**: whoever sends louder than everybody else is all that is heard.

The attacker needs a radio near those whom it keeps apart, for as long as they are together. Two ways: noise, so that
nothing of any kind is heard; or reactive jamming, which reads the header of a frame and drowns the rest of every second
one, so that all other devices go on working and no identifier ever gets complete. Neither can be told from being alone
or badly placed; but the agent tells its user that nothing is heard, or that what is heard is too little. Who drowns all
but one slice is not told: that sounds like a gadget, whose 128-bit UUID is always the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.commands import views
from agent.proximity import Proximity
from agent.service import ServiceStatus
from ble import watchdog
from ble.watchdog import SILENCE
from tests.attacks.street import MINUTE, NEAR, Street, device, shared, start_of_epoch
from tests.ble.test_watchdog import Scene

if TYPE_CHECKING:
    import pytest

    from ble.frame import Frame
    from tests.attacks.street import Device, Walker

DROWNED = {2, 3}  # slice indices: of what is left no block can be made


class Jammed(Street):
    """A street with somebody who drowns every frame of these indices."""

    def _deliver(self, frame: Frame, power: float, place: tuple[float, float], sender: Walker | None) -> None:
        if frame.index not in DROWNED:
            super()._deliver(frame, power, place, sender)


def meet(street: Street) -> tuple[Device, Device]:
    """Two people stand together for five minutes."""
    start_of_epoch(street.clock)
    left, right = device(street.clock, 1), device(street.clock, 2)
    street.put(left, NEAR)
    street.put(right, (1.0, 0.0))
    street.walk(5)
    return left, right


def told(one: Device) -> list[str]:
    """What the agent says of its radio to its user, as `spot status` shows it."""
    now = one.clock.now()
    lately = now - MINUTE
    status = ServiceStatus(
        pid=1,
        started=now,
        beat=now,
        on_air=True,
        peers=one.proximity.peers(lately),
        unread=one.proximity.unread(lately, MINUTE),
    )
    return views.radio_texts(status, now)


def jam() -> tuple[bool, list[str]]:
    """Jam reactively. Whether the two have a contact all the same, and what one of them was told."""
    street = Jammed()
    left, right = meet(street)
    said = told(left)
    street.leave()
    return bool(shared(left, right)), said


def test_a_reactive_jammer_keeps_people_apart_and_they_are_told() -> None:
    contact, said = jam()
    assert not contact, "if this fails, such a jammer is outwitted: say so in docs/threat-model.md"
    assert len(said) == 1
    assert "reception is poor" in said[0]
    assert "1 of 1 devices" in said[0]


def test_who_is_not_jammed_is_told_nothing() -> None:
    street = Street()
    left, right = meet(street)
    assert told(left) == []
    street.leave()
    assert shared(left, right)


def test_an_agent_that_does_not_count_fragments_would_be_jammed_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proximity, "unread", lambda *_: 0)
    assert jam() == (False, [])


def test_who_leaves_one_slice_is_taken_for_a_gadget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.attacks.test_22_jamming.DROWNED", {1, 2, 3})
    assert jam() == (False, []), "if this is told, say so in docs/threat-model.md"


async def drown() -> list[str]:
    """Let nothing of any kind be heard any more, for three minutes. What the user is told."""
    async with (scene := Scene()).listening():
        await scene.timer.advance(10)
        scene.radio.hear()
        await scene.timer.advance(2 * SILENCE)
        status = ServiceStatus(pid=1, started=0.0, beat=0.0, on_air=True, health=scene.health)
        return views.radio_texts(status, scene.health.quiet_since or 0.0)


async def test_noise_is_told_as_silence() -> None:
    (said,) = await drown()
    assert "nothing heard since" in said
    assert "jammed" in said


async def test_without_the_watchdog_noise_would_go_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "SILENCE", float("inf"))
    assert await drown() == []
