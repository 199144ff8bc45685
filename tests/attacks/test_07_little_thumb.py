"""Attack 7: breadcrumbs. An advertisement with a new address and an old payload, or the reverse, ties both together.

The attacker stays in reach of two devices and keeps every address and every frame. An address that carried two blocks
ties these to one device, and a frame that is sent after its epoch tells that its device is still there (the rule of
zephyr#23247: not one such packet). Watched is what this project's own sender asks of BlueZ, which draws an address for
each registration and keeps it until that ends; that the true BlueZ does so is watched by `scripts/bench rotation`. On
macOS the system keeps an address for about 15 minutes whatever a program does: there it is as with the first mutant.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from ble.frame import Block
from ble.rotation import Rotation
from scripts.ble_vm import linkage
from scripts.ble_vm.trace import Sent
from tests.ble.conftest import Noon
from tests.ble.conftest import bluez as bluez
from tests.ble.conftest import system_bus as system_bus
from tests.ble.waiting import eventually

if sys.platform != "linux":
    pytest.skip("BlueZ is Linux's", allow_module_level=True)

from dbus_fast import Message, Variant, unpack_variants

from ble.bluez import BlueZRadio, BlueZSender
from ble.frame import Frame
from tests.ble.fake_bluez import FakeBlueZ

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


EPOCHS = 10
FRAMES = 12  # of both devices together, watched in each epoch at least
LENGTH = 900.0


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ble.rotation.PAUSE", (0.0, 0.002))


@dataclass
class Watcher:
    """Stands between two devices, and keeps what was on air, in its order."""

    bluez: FakeBlueZ
    packets: list[Sent] = field(default_factory=list)

    def note(self, at: float) -> None:
        """Take in what was shown since the last time."""
        for shown in self.bluez.shown[len(self.packets) :]:
            ((uuid, value),) = shown.properties["ServiceData"].items()
            data = b"\x13\x16" + int(uuid[4:8], 16).to_bytes(2, "little") + value
            # An address for each registration, and each has a path of its own.
            address = random.Random(shown.sender + shown.path).randbytes(6).hex(":")
            self.packets.append(Sent(at, shown.sender, "ADV_NONCONN_IND", address, "random", data, {}))


@dataclass(frozen=True)
class Gain:
    """tied: pairs of blocks known to be of one device; outlived: blocks that were heard in two epochs."""

    tied: int
    outlived: int


def tell(packets: Sequence[Sent]) -> Gain:
    """Tell what addresses and frames tell, of packets of all devices mixed."""
    blocks: dict[str, set[int]] = {}
    epochs: dict[int, set[float]] = {}
    for one in packets:
        key_id = linkage.frame(one.data).key_id
        blocks.setdefault(one.address, set()).add(key_id)
        if one.at % LENGTH == 0:  # not while some have changed already, and some not yet
            epochs.setdefault(key_id, set()).add(one.at)
    return Gain(sum(len(found) - 1 for found in blocks.values()), sum(len(found) > 1 for found in epochs.values()))


async def watch(bluez: FakeBlueZ) -> tuple[Gain, list[str]]:
    """Stay beside two devices for some epochs. What was gained, and what the search for links finds in each device."""
    watcher, chance = Watcher(bluez), random.Random(7)
    async with BlueZRadio(dwell=0.01, clock=Noon()) as one, BlueZRadio(dwell=0.01, clock=Noon()) as other:
        for epoch in range(EPOCHS):
            for radio in (one, other):
                await radio.advertise(Block(chance.randbytes(31) + b"\0", 0).encode())
            watcher.note((epoch - 0.5) * LENGTH)
            seen = len(bluez.shown) + FRAMES
            await eventually(lambda seen=seen: len(bluez.shown) >= seen)  # type: ignore[misc]
            watcher.note(epoch * LENGTH)
    devices = {packet.by for packet in watcher.packets}
    found = [linkage.linked([packet for packet in watcher.packets if packet.by == device]) for device in devices]
    assert len(devices) == 2
    return tell(watcher.packets), [line for lines in found for line in lines]


async def test_nothing_ties_one_block_to_the_next(bluez: FakeBlueZ) -> None:
    gain, links = await watch(bluez)
    assert gain == Gain(tied=0, outlived=0)
    assert links == []


def altering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that registers once, and alters that: BlueZ sends what is new under the old address."""
    register, take = BlueZSender._register, FakeBlueZ._take_signal

    async def alter(self: BlueZSender, frame: Frame) -> None:
        if self._path is None or self._bus is None:
            await register(self, frame)
            return
        news = {"ServiceData": Variant("a{sv}", {self._service: Variant("ay", frame.encode())})}
        body = ["org.bluez.LEAdvertisement1", news, []]
        properties = "org.freedesktop.DBus.Properties"
        await self._bus.send(Message.new_signal(self._path, properties, "PropertiesChanged", "sa{sv}as", body))

    async def stay(self: BlueZSender) -> None:
        pass

    def send_altered(self: FakeBlueZ, message: Message) -> None:
        take(self, message)
        if message.member == "PropertiesChanged":
            (on_air,) = (one for one in self.on_air if (one.sender, one.path) == (message.sender, message.path))
            self.shown.append(replace(on_air, properties=on_air.properties | unpack_variants(message.body[1])))

    monkeypatch.setattr(BlueZSender, "_register", alter)
    monkeypatch.setattr(BlueZSender, "hide", stay)
    monkeypatch.setattr(FakeBlueZ, "_take_signal", send_altered)


async def test_an_address_kept_over_the_change_ties_all_blocks(
    bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    altering(monkeypatch)
    gain, links = await watch(bluez)
    assert gain == Gain(tied=2 * (EPOCHS - 1), outlived=0), "each device is followed from the first epoch to the last"
    assert any("carried" in line for line in links)


async def test_a_frame_kept_over_the_change_outlives_its_epoch(
    bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, kept = Rotation._orders, dict[Rotation, tuple[Frame, ...]]()

    def orders(self: Rotation, frames: Sequence[Frame]) -> Iterator[Frame]:
        former, kept[self] = kept.get(self, ()), tuple(frames[:1])
        return honest(self, (*frames, *former))

    monkeypatch.setattr(Rotation, "_orders", orders)
    gain, links = await watch(bluez)
    assert gain.tied == 0
    assert gain.outlived > 2
    assert any("came back" in line for line in links)
