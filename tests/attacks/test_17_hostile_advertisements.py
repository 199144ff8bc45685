"""Attack 17: malformed, truncated, over-long and hostile advertisements (CVE-2020-12717 was a crash by one of them).

Anybody can send anything. Nothing that is sent stops an agent, raises, or keeps it from finding who is really there.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ble import carriage
from ble.carriage import COMPANY, Carriage
from ble.frame import FRAME_SIZE, Frame, carousel, key_id, xor
from ble.radio import Sighting
from tests.attacks.street import Device, device
from tests.end_to_end.people import NOON, JumpingClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CARRIAGE = Carriage()
MADE = b"\x05" * 32  # an EBID that an attacker makes up

payloads = st.binary(max_size=40) | st.binary(min_size=FRAME_SIZE, max_size=FRAME_SIZE)
advertisements = st.tuples(
    st.dictionaries(st.sampled_from([CARRIAGE.service, "0000180f-0000-1000-8000-00805f9b34fb", ""]), payloads),
    st.dictionaries(st.sampled_from([COMPANY, 0x4C]), payloads),
    st.lists(st.uuids().map(str) | st.text(max_size=40), max_size=12),
)


@st.composite
def hostile_blocks(draw: st.DrawFn) -> list[Frame]:
    """The frames of 36 bytes that hash to their key id, whatever else is wrong with them."""
    block = draw(
        st.binary(min_size=36, max_size=36) | st.tuples(st.just(MADE), st.binary(min_size=4, max_size=4)).map(b"".join)
    )
    parts = [block[at : at + 12] for at in (0, 12, 24)]
    return [Frame(index, key_id(block), part) for index, part in enumerate([*parts, xor(*parts)])]


def hear(hearer: Device, frames: Iterable[Frame], at: float, rssi: int = -60) -> None:
    for frame in frames:
        hearer.proximity.hear(Sighting(at, frame, rssi))


def on_air() -> tuple[Device, Device]:
    """A hearer and an honest peer, both on air."""
    both = device(JumpingClock(), 1), device(JumpingClock(), 2)
    for one in both:
        one.epochs.switch(one.epochs.fresh(NOON), NOON)
    return both


def finds(hearer: Device, peer: Device) -> bool:
    """Whether the peer is found by frames that it sends now."""
    own = peer.epochs.on_air(NOON)
    assert own is not None
    before = len(hearer.proximity)
    for second in (100.0, 101.0):
        hear(hearer, carousel(own.block), NOON + second)
    return len(hearer.proximity) == before + 1


@given(st.lists(advertisements, max_size=20), st.integers(-127, 20))
@settings(max_examples=200, deadline=None)
def test_no_advertisement_stops_an_agent(
    heard: Sequence[tuple[dict[str, bytes], dict[int, bytes], list[str]]], rssi: int
) -> None:
    hearer, peer = on_air()
    for number, one in enumerate(heard):
        hear(hearer, CARRIAGE.frames(*one), NOON + number, rssi)
    assert finds(hearer, peer)


@given(st.lists(hostile_blocks(), max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_block_stops_an_agent(blocks: Sequence[list[Frame]]) -> None:
    hearer, peer = on_air()
    for number, frames in enumerate(blocks):
        hear(hearer, frames, NOON + number)
    assert finds(hearer, peer)


def test_a_decoder_that_takes_any_size_would_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    hearer, _ = on_air()
    found = CARRIAGE.frames(
        {CARRIAGE.service: b"short"}, {COMPANY: b"much too long for a frame"}, [str(uuid.uuid4()), "x"]
    )
    assert [len(frame.encode()) for frame in found] == [FRAME_SIZE]
    monkeypatch.setattr(carriage, "FRAME_SIZE", 5)
    with pytest.raises(ValueError, match="a frame has 16 bytes"):
        hear(hearer, CARRIAGE.frames({CARRIAGE.service: b"short"}, {}, []), NOON)
