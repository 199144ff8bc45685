"""Frames in what scanners report, among everything else that is on air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ble.carriage import COMPANY, UUIDS, Carriage, as_uuid
from tests.ble.strategies import frames

if TYPE_CHECKING:
    from ble.frame import Frame

CARRIAGE = Carriage()
BASE = "-0000-1000-8000-00805f9b34fb"


@given(frames())
def test_each_platform_s_way_is_read(frame: Frame) -> None:
    data = frame.encode()
    assert CARRIAGE.frames({CARRIAGE.service: data}, {}, []) == [frame]
    assert CARRIAGE.frames({}, {COMPANY: data}, []) == [frame]
    assert CARRIAGE.frames({}, {}, [as_uuid(frame)]) == [frame]
    assert CARRIAGE.frames({}, {}, [as_uuid(frame).upper()]) == [frame]


@given(frames())
def test_foreign_numbers_are_left_alone(frame: Frame) -> None:
    data = frame.encode()
    assert CARRIAGE.frames({f"0000fd6f{BASE}": data}, {0x004C: data}, [f"0000180f{BASE}"]) == []


@given(
    st.dictionaries(st.sampled_from([CARRIAGE.service, "", "ff50"]), st.binary(max_size=20)),
    st.dictionaries(st.sampled_from([COMPANY, 0x004C]), st.binary(max_size=20)),
    st.lists(st.text(max_size=8) | st.uuids().map(str), max_size=2 * UUIDS),
)
def test_whatever_strangers_send_only_frames_come_out(
    service_data: dict[str, bytes], manufacturer_data: dict[int, bytes], service_uuids: list[str]
) -> None:
    found = CARRIAGE.frames(service_data, manufacturer_data, service_uuids)
    assert len(found) <= 2 + UUIDS


def test_numbers_are_settings() -> None:
    carriage = Carriage(service_uuid=0xFD01, company=0x0102)
    assert carriage.service == f"0000fd01{BASE}"
    data = bytes(16)
    assert carriage.frames({CARRIAGE.service: data}, {COMPANY: data}, []) == []
    assert len(carriage.frames({carriage.service: data}, {0x0102: data}, [])) == 2


@pytest.mark.parametrize("number", [-1, 0x10000])
def test_numbers_have_sixteen_bits(number: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        Carriage(service_uuid=number)
    with pytest.raises(ValueError, match="16 bits"):
        Carriage(company=number)
