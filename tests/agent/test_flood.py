"""Small versions of the floods of scripts/bench flood: whoever is really there is found all the same."""

from __future__ import annotations

import functools

import pytest

from agent import proximity
from ble.assembly import Assembler
from scripts.benchmarks import flood

SIZE = 600


@pytest.mark.parametrize("name", flood.FLOODS)
def test_real_peers_are_found_beside_a_flood_that_is_larger_than_the_tables(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(proximity, "Assembler", functools.partial(Assembler, capacity=128))
    monkeypatch.setattr(proximity, "KEY_IDS", 128)
    monkeypatch.setattr(proximity, "PEERS", 64)
    outcome = flood.run_flood(flood.FLOODS[name], SIZE)
    assert outcome.found == flood.PEERS
    made_up = SIZE if name == "made-up peers" else 0
    assert outcome.encounters == flood.PEERS + made_up


@pytest.mark.parametrize("name", ["altered slices", "replayed slices", "garbage"])
def test_what_has_no_key_id_of_its_own_takes_no_room(name: str) -> None:
    still = flood.run_flood(flood.FLOODS["no flood"], SIZE, trace=True)
    flooded = flood.run_flood(flood.FLOODS[name], SIZE, trace=True)
    assert flooded.peak_megabytes < still.peak_megabytes + 0.5
