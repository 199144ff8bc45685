"""What the machine runs on, as Linux tells it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from agent.power import duty_of, on_battery
from agent.service import SERVICE, Service, ServiceStatus
from ble.duty import BATTERY, MAINS
from ble.simulated import Air
from tests.agent import joined
from tests.agent.clocks import VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from agent.store import Store


def supply(folder: Path, name: str, **facts: str) -> None:
    (folder / name).mkdir(parents=True)
    for fact, value in facts.items():
        (folder / name / fact).write_text(value + "\n")


@pytest.mark.parametrize(
    ("status", "drains"),
    [("Discharging", True), ("Charging", False), ("Full", False), ("Not charging", False), ("", False)],
)
def test_a_laptop_is_on_battery_while_it_discharges(tmp_path: Path, status: str, drains: bool) -> None:
    supply(tmp_path, "AC", type="Mains", online="0" if drains else "1")
    supply(tmp_path, "BAT0", type="Battery", status=status, scope="System")
    assert on_battery(tmp_path) is drains
    assert duty_of("auto", tmp_path) is (BATTERY if drains else MAINS)


def test_one_of_two_batteries_suffices(tmp_path: Path) -> None:
    supply(tmp_path, "BAT0", type="Battery", status="Not charging")
    supply(tmp_path, "BAT1", type="Battery", status="Discharging")
    assert on_battery(tmp_path)


def test_the_battery_of_a_mouse_is_not_the_machines(tmp_path: Path) -> None:
    supply(tmp_path, "hidpp_battery_0", type="Battery", status="Discharging", scope="Device")
    assert not on_battery(tmp_path)


def test_a_machine_without_batteries_or_that_does_not_say_is_on_mains(tmp_path: Path) -> None:
    assert not on_battery(tmp_path)
    assert not on_battery(tmp_path / "nowhere")
    supply(tmp_path, "odd", type="Battery")
    (tmp_path / "odd" / "status").write_bytes(b"\xff\xfe")
    assert not on_battery(tmp_path)


def test_a_duty_that_is_set_is_kept_to(tmp_path: Path) -> None:
    supply(tmp_path, "BAT0", type="Battery", status="Discharging")
    assert duty_of("mains", tmp_path) is MAINS
    assert duty_of("battery", tmp_path / "nowhere") is BATTERY


async def test_an_agent_on_battery_listens_in_windows_and_sends_always(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.service.CONTROL", 0.01)
    clock = VirtualClock()
    air = Air(clock)
    mine, other = air.radio("agent", (0, 0)), air.radio("other", (1, 0))
    duty = BATTERY
    running = asyncio.create_task(
        Service(store, mine, joined.world().curve, random.Random(1), clock).run(duty=lambda: duty)
    )

    async def said() -> str:
        await asyncio.sleep(0.05)
        status = store.get(SERVICE, ServiceStatus)
        assert status is not None
        return status.duty

    async with contextlib.aclosing(other.sightings()) as sightings:
        hearing = asyncio.ensure_future(anext(sightings))
        while not mine.listening:  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)
        await clock.advance(5)
        assert not mine.listening
        await clock.advance(50)
        assert not mine.listening
        assert await said() == "battery"
        await hearing
        assert (await anext(sightings)).at <= clock.now()
        assert not mine.listening
        duty = MAINS  # plugged in
        await clock.advance(BATTERY.round)
        assert mine.listening
        assert await said() == "mains"
        await clock.advance(600)
        assert mine.listening
    running.cancel()
    await asyncio.wait({running})
