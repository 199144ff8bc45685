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


class Sampler:
    """Makes samples of readings as they come."""

    __slots__ = ("_count", "_first", "_total", "samples")

    def __init__(self, first: float) -> None:
        """first: when the encounter began, seconds since 1970."""
        self.samples: list[Sample] = []
        self._first = first
        self._total = 0.0  # of the sample that is being made
        self._count = 0

    def add(self, at: float, attenuation: float) -> None:
        """Take one reading in. Late ones (a little out of order) count for the sample under way."""
        slot = max(at - self._first, 0) // SAMPLE_SECONDS
        begin = self._first + slot * SAMPLE_SECONDS
        if self.samples and begin <= self.samples[-1].at:
            begin = self.samples.pop().at
        else:
            self._total, self._count = 0.0, 0
        self._total += attenuation
        self._count += 1
        self.samples.append(Sample(begin, self._total / self._count))


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
