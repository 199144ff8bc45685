"""How a frame rides in an advertisement, and how it is found again.

Each platform lets a program broadcast something else; a scanner takes all three, whatever it runs on:

    Linux       service data under a 16-bit service UUID
    Windows     manufacturer data under a 16-bit company id
    macOS       a 128-bit service UUID, which is the frame
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ble.frame import FRAME_SIZE, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Nobody's: the Bluetooth SIG gives 0xFC00 to 0xFEFF to its members, and counts down from 0xFFFE for standards
# bodies. A product gets a UUID of its own from the SIG; all devices that are to meet must have the same.
SERVICE_UUID = 0xFF50
COMPANY = 0xFFFF  # by the assigned numbers: for tests, not for products
UUIDS = 8  # read of one advertisement; BlueZ reports with an address what it sent earlier, too

_BASE = "-0000-1000-8000-00805f9b34fb"  # ends every 16- and 32-bit UUID written in full


@dataclass(frozen=True, slots=True)
class Carriage:
    """Where frames are looked for: a 16-bit service UUID, and a 16-bit company id."""

    service_uuid: int = SERVICE_UUID
    company: int = COMPANY

    def __post_init__(self) -> None:
        """Raise ValueError where a number has more than 16 bits."""
        for number in (self.service_uuid, self.company):
            if not 0 <= number <= 0xFFFF:
                raise ValueError(f"service UUID and company id have 16 bits, {number:#x} does not fit")

    @property
    def service(self) -> str:
        """The service UUID in full, as platforms write it."""
        return f"0000{self.service_uuid:04x}{_BASE}"

    def frames(
        self,
        service_data: Mapping[str, bytes],
        manufacturer_data: Mapping[int, bytes],
        service_uuids: Iterable[str],
    ) -> list[Frame]:
        """Return the frames in what was heard of one address: none if it is no device of ours."""
        found = [service_data.get(self.service), manufacturer_data.get(self.company)]
        found += itertools.islice(_spelled_out(service_uuids), UUIDS)
        # What has another size is no malformed frame of ours but somebody else's use of the same numbers.
        return [Frame.decode(data) for data in found if data is not None and len(data) == FRAME_SIZE]


def as_uuid(frame: Frame) -> str:
    """Write a frame as the 128-bit UUID that macOS broadcasts."""
    return str(uuid.UUID(bytes=frame.encode()))


def _spelled_out(service_uuids: Iterable[str]) -> Iterable[bytes]:
    """Give the bytes of every UUID that is no abbreviation; any of those may be a frame."""
    for text in service_uuids:
        if not text.lower().endswith(_BASE):
            try:
                yield uuid.UUID(text).bytes
            except ValueError:
                continue
