"""The carousel: a 36-byte block as four 16-byte frames, and back.

A block does not fit the 31 bytes of a legacy advertisement, so it is cut into three slices of 12 bytes; a
fourth is the XOR of the three. Any three of the four rebuild the block, which makes one lost frame cost
nothing. The layout is that of DESIRE (Castelluccia et al., 2020, https://hal.inria.fr/hal-02570382):

    block   EBID (32) ‖ version (1) ‖ TX power (1, signed, dBm) ‖ reserved (2, zero)
    key id  the first 30 bits of SHA-256(block)
    frame   slice index (2 bits) ‖ key id (30 bits) ‖ slice (12 bytes), big-endian

The key id groups the frames of one block whatever address they came from, and commits to the block, so that
slices of different blocks cannot be mixed. `ble.assembly` does the grouping.

    FrameError          these bytes are no frame, or no block
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

EBID_SIZE = 32
BLOCK_SIZE = 36
FRAME_SIZE = 16
SLICE_SIZE = 12
SLICES = 4
PARITY = 3  # the index of the slice that is the XOR of the others
VERSION = 1
TX_POWER_MIN = -50  # dBm; outside of what any Bluetooth radio sends, a claim about it is wrong or a lie
TX_POWER_MAX = 20

_KEY_ID_BITS = 30
_KEY_ID_MASK = (1 << _KEY_ID_BITS) - 1
_RESERVED = bytes(2)


class FrameError(ValueError):
    """These bytes are no frame, or no block: drop them, as a stranger or a newer version sent them."""


@dataclass(frozen=True, slots=True)
class Block:
    """What a device broadcasts during one epoch: its EBID (32 bytes) and the power it sends with (dBm)."""

    ebid: bytes
    tx_power: int

    def __post_init__(self) -> None:
        """Raise FrameError where a field is out of its range."""
        if len(self.ebid) != EBID_SIZE:
            raise FrameError(f"an EBID has {EBID_SIZE} bytes, this one {len(self.ebid)}")
        if not TX_POWER_MIN <= self.tx_power <= TX_POWER_MAX:
            raise FrameError(f"TX power is {TX_POWER_MIN} to {TX_POWER_MAX} dBm, this one claims {self.tx_power} dBm")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the 36 bytes of a block. Raises FrameError."""
        if len(data) != BLOCK_SIZE:
            raise FrameError(f"a block has {BLOCK_SIZE} bytes, this one {len(data)}")
        if data[32] != VERSION:
            raise FrameError(f"only version {VERSION} is known, this block has version {data[32]}")
        # Nothing may hide in the reserved bytes: they would make blocks of one EBID distinguishable.
        if data[34:] != _RESERVED:
            raise FrameError("the reserved bytes of a block are zero, these are not")
        return cls(bytes(data[:EBID_SIZE]), int.from_bytes(data[33:34], signed=True))

    def encode(self) -> bytes:
        """Write the 36 bytes of the block."""
        return self.ebid + bytes([VERSION]) + self.tx_power.to_bytes(1, signed=True) + _RESERVED


@dataclass(frozen=True, slots=True)
class Frame:
    """A quarter of the carousel: slice index (0 to 3, 3 the parity), key id (30 bits), slice (12 bytes)."""

    index: int
    key_id: int
    slice: bytes

    def __post_init__(self) -> None:
        """Raise FrameError where a field is out of its range."""
        if not 0 <= self.index < SLICES:
            raise FrameError(f"a slice index is 0 to {SLICES - 1}, this one {self.index}")
        if not 0 <= self.key_id <= _KEY_ID_MASK:
            raise FrameError(f"a key id has {_KEY_ID_BITS} bits, this one {self.key_id.bit_length()}")
        if len(self.slice) != SLICE_SIZE:
            raise FrameError(f"a slice has {SLICE_SIZE} bytes, this one {len(self.slice)}")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the 16 bytes of a frame. Raises FrameError; every string of 16 bytes is a frame."""
        if len(data) != FRAME_SIZE:
            raise FrameError(f"a frame has {FRAME_SIZE} bytes, this one {len(data)}")
        header = int.from_bytes(data[:4])
        return cls(header >> _KEY_ID_BITS, header & _KEY_ID_MASK, bytes(data[4:]))

    def encode(self) -> bytes:
        """Write the 16 bytes of the frame."""
        return ((self.index << _KEY_ID_BITS) | self.key_id).to_bytes(4) + self.slice


def key_id(block: bytes) -> int:
    """Return the 30 bits that the four frames of this 36-byte block carry.

    A commitment, not a secret: another block with the same key id can be found with 2^30 hashes.
    """
    return int.from_bytes(hashlib.sha256(block).digest()[:4]) >> (32 - _KEY_ID_BITS)


def carousel(block: bytes) -> tuple[Frame, Frame, Frame, Frame]:
    """Cut a 36-byte block into its four frames, by slice index. Raises FrameError."""
    Block.decode(block)  # what others would refuse is not sent
    name = key_id(block)
    parts = [block[start : start + SLICE_SIZE] for start in range(0, BLOCK_SIZE, SLICE_SIZE)]
    first, second, third = (Frame(index, name, part) for index, part in enumerate(parts))
    return first, second, third, Frame(PARITY, name, xor(*parts))


def join(slices: dict[int, bytes]) -> bytes:
    """Rebuild the 36 bytes from slices of three different indices. What comes out is still to be verified."""
    parts = dict(slices)
    for index in range(PARITY):
        if index not in parts:
            parts[index] = xor(*slices.values())
    return parts[0] + parts[1] + parts[2]


def xor(*parts: bytes) -> bytes:
    """Return the XOR of slices (12 bytes each)."""
    total = 0
    for part in parts:
        total ^= int.from_bytes(part)
    return total.to_bytes(SLICE_SIZE)
