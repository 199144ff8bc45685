"""What is kept of an encounter's sightings: one attenuation a few seconds, small enough to keep for two weeks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLE_SECONDS = 5.0
"""Sightings within so many seconds are one sample, with their mean attenuation."""

_ROW = struct.Struct(">HB")  # tenths of a second would not fit: units of SAMPLE_SECONDS; half dB


@dataclass(frozen=True, slots=True)
class Sample:
    """at: seconds since 1970, start of the sample; attenuation: TX power − RSSI + correction, dB, in 0..127.5."""

    at: float
    attenuation: float


def encode_samples(first: float, samples: Iterable[Sample]) -> bytes:
    """Samples of an encounter that began at `first`: 3 bytes each."""
    rows = []
    for sample in samples:
        slot = min(round((sample.at - first) / SAMPLE_SECONDS), 0xFFFF)
        rows.append(_ROW.pack(slot, min(max(round(sample.attenuation * 2), 0), 0xFF)))
    return b"".join(rows)


def decode_samples(first: float, data: bytes) -> tuple[Sample, ...]:
    """What `encode_samples` was given, as far as its 3 bytes a sample hold it."""
    return tuple(Sample(first + slot * SAMPLE_SECONDS, half / 2) for slot, half in _ROW.iter_unpack(data))
