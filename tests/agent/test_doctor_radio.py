"""`spot doctor --radio`: two machines find each other, and no agent takes either for a person."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from agent.doctor.findings import Verdict
from agent.doctor.radio import RadioCheck
from agent.epochs import Epochs
from agent.proximity import Proximity
from agent.service import is_running, running_lock
from ble.frame import carousel
from ble.radio import RadioError, Reason, Sighting
from ble.simulated import Air
from protocol.encounter import EpochKey
from protocol.errors import Malformed
from tests.agent.clocks import NOON, VirtualClock
from tests.agent.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from agent.store import Store
    from ble.radio import Radio

RANDOM = random.SystemRandom().randbytes


async def run_for(clock: VirtualClock, seconds: float, *checks: RadioCheck) -> None:
    """Let the checks run for so long, then end them as Ctrl-C does."""
    tasks = [asyncio.create_task(check.run(3600)) for check in checks]
    await clock.advance(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


async def test_two_machines_find_each_other() -> None:
    clock = VirtualClock()
    air = Air(clock)
    async with air.radio("a", (0, 0)) as first, air.radio("b", (1, 0)) as second:
        one, two = RadioCheck(first, RANDOM, clock.now), RadioCheck(second, RANDOM, clock.now)
        await run_for(clock, 60, one, two)
        for check, other in ((one, two), (two, one)):
            (heard,) = check.facts()["heard"]
            assert heard["tag"] == other.tag
            assert heard["frames"] > 5
            assert heard["rate"] > 0
            assert -90 < heard["rssi"]["median"] < -20
            assert 0 < heard["whole_seconds"]["median"] <= heard["whole_seconds"]["max"] < 60
            assert [found.verdict for found in check.findings()] == [Verdict.OK, Verdict.OK]
            assert other.tag in str(check.table().columns[0]._cells)
            assert check.seconds == 60


async def test_alone_is_a_fault() -> None:
    clock = VirtualClock()
    async with Air(clock).radio("a", (0, 0)) as radio:
        check = RadioCheck(radio, RANDOM, clock.now)
        await run_for(clock, 30, check)
        sending, hearing = check.findings()
        assert (sending.verdict, hearing.verdict) == (Verdict.OK, Verdict.FAULT)
        assert "both machines at once" in hearing.remedy


def frames_of(check: RadioCheck) -> list[Sighting]:
    return [Sighting(NOON + at, frame, -50) for at, frame in enumerate(carousel(check._block))]


async def test_no_agent_makes_an_encounter_of_a_check() -> None:
    clock = VirtualClock()
    async with Air(clock).radio("a", (0, 0)) as radio:
        check = RadioCheck(radio, RANDOM, clock.now)
    epochs = Epochs(900, 0, RANDOM)
    own = epochs.fresh(NOON)
    epochs.switch(own, NOON)
    proximity = Proximity(epochs)
    for sighting in frames_of(check):
        proximity.hear(sighting)
    assert len(proximity) == 0
    key = EpochKey(RANDOM(32))
    with pytest.raises(Malformed):
        key.meet(key.ebid + bytes(4), check._block)


async def test_agents_strangers_and_floods_are_told_apart() -> None:
    clock = VirtualClock()
    async with Air(clock).radio("a", (0, 0)) as radio:
        check, other = (RadioCheck(radio, RANDOM, clock.now) for _ in range(2))
        agent = Epochs(900, 0, RANDOM).fresh(NOON).block
        for sighting in (*frames_of(other), *frames_of(check)):
            check.hear(sighting)
        for at, frame in enumerate(carousel(agent)):
            check.hear(Sighting(NOON + at, frame, -60))
        facts = check.facts()
        assert [one["tag"] for one in facts["heard"]] == [other.tag]
        assert (facts["agents"], facts["incomplete"], check.own_heard) == (1, 0, 4)
        for _ in range(1000):
            frame, *_ = carousel(Epochs(900, 0, RANDOM).fresh(NOON).block)
            check.hear(Sighting(NOON, frame, -60))
        assert len(check.senders) == 256
        assert check.facts()["incomplete"] == 254


async def test_a_radio_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    async with Air(clock).radio("a", (0, 0)) as radio:

        async def refuses(block: bytes | None) -> None:
            raise RadioError(Reason.OFF, "It is off. Turn it on.")

        monkeypatch.setattr(radio, "advertise", refuses)
        with pytest.raises(RadioError, match="off"):
            await RadioCheck(radio, RANDOM, clock.now).run(1)


async def test_a_radio_that_goes_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    radio: Radio
    async with Air(clock).radio("a", (0, 0)) as radio:

        async def deaf():  # type: ignore[no-untyped-def]
            raise RadioError(Reason.OFF, "It is off. Turn it on.")
            yield

        monkeypatch.setattr(radio, "sightings", deaf)
        check = RadioCheck(radio, RANDOM, clock.now)
        await check.run(0.05)
        assert check.findings()[1].remedy == "It is off. Turn it on."


# --- the command ---


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent", "--data-dir", str(folder), "doctor", "--radio", *words]
    environment = os.environ | {"SPOT_KEY": "file", "SPOT_RADIO": "simulated", "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_the_summary_as_json(folder: Path) -> None:
    with start(folder, "--seconds", "1", "--json") as process:
        output, errors = process.communicate(timeout=60)
    facts = json.loads(output)
    assert (process.returncode, errors) == (40, ""), "nobody is there on the simulated radio"
    assert facts["verdict"] == "fault"
    assert facts["radio"]["heard"] == []
    assert facts["radio"]["seconds"] >= 1
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_ends_it_with_a_summary(folder: Path) -> None:
    with start(folder) as process:
        while not is_running(folder):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(2.5)  # from holding the folder to being on air
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 40, errors
    assert "Traceback" not in errors
    assert "hearing" in output


def test_not_beside_a_running_agent(store: Store, folder: Path) -> None:
    with running_lock(folder), start(folder, "--seconds", "1") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (31, "")
    assert "already running" in errors
