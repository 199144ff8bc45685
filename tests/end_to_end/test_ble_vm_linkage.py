"""What the search for links between identifiers finds, in packets made up."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import cycle

import pytest

from ble.carriage import SERVICE_UUID
from ble.frame import Block, Frame, carousel
from scripts.ble_vm import linkage
from scripts.ble_vm.trace import Sent

ONE, TWO = carousel(Block(b"1" * 32, 0).encode()), carousel(Block(b"2" * 32, 0).encode())
FLAGS = b"\x02\x01\x04"
NUMBERS = cycle(range(256))


def packet(frame: Frame, address: str = "") -> Sent:
    data = b"\x13\x16" + SERVICE_UUID.to_bytes(2, "little") + frame.encode()
    return Sent(0.0, "a", "ADV_NONCONN_IND", address or f"3F:00:00:00:00:{next(NUMBERS):02X}", "random", data, {})


def turned(*blocks: tuple[Frame, ...]) -> list[Sent]:
    return [packet(frame) for block in blocks for frame in block]


def test_the_carousel_alone_is_well_also_with_the_flags_that_bluez_adds() -> None:
    packets = turned(ONE, TWO)
    packets = [packets[0], *packets]  # sent twice
    assert linkage.violations(packets) == []
    assert linkage.violations([replace(one, data=FLAGS + one.data) for one in packets]) == []
    assert linkage.turns(linkage.shown(packets)) == [ONE[0].key_id, TWO[0].key_id]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (packet(ONE[0], "3F:AA:AA:AA:AA:AA"), "carried 2 frames"),
        (packet(TWO[1], "3F:AA:AA:AA:AA:AA"), "carried 2 frames"),
        (replace(packet(TWO[1]), kind="ADV_IND"), "ADV_IND"),
        (replace(packet(TWO[1]), kind="SCAN_REQ"), "SCAN_REQ"),
        (packet(TWO[1], "7F:00:00:00:00:00"), "can be resolved"),
        (replace(packet(TWO[1]), address_type="public"), "for ever"),
        (replace(packet(TWO[1]), data=packet(TWO[1]).data + b"\x02\x0a\x00"), "nothing else"),
        (replace(packet(TWO[1]), data=b"\x03\x03\x50\xff"), "nothing else"),
    ],
)
def test_what_links_is_found(wrong: Sent, said: str) -> None:
    packets = [*turned(ONE), packet(TWO[0], "3F:AA:AA:AA:AA:AA"), wrong]
    assert said in " ".join(linkage.violations(packets))


def test_a_block_that_comes_back_is_found() -> None:
    assert "came back 1 times" in " ".join(linkage.violations(turned(ONE[:2], TWO[:2], ONE[2:])))


def test_an_order_that_is_always_the_same_is_no_chance() -> None:
    blocks = [carousel(Block(bytes([number]) * 32, 0).encode()) for number in range(50)]
    frames = [linkage.Shown(None, frame) for block in blocks for frame in block]
    order = linkage.orders(frames)
    assert order.rounds == 50
    assert max(order.first, order.whole) < 0.001


def test_random_orders_are_taken_for_random_as_often_as_they_should() -> None:
    chance = random.Random(5)
    found = []
    for _ in range(8):
        blocks = [carousel(Block(chance.randbytes(32), 0).encode()) for _ in range(12)]
        frames = [linkage.Shown(None, frame) for block in blocks for frame in chance.sample(block, 4)]
        order = linkage.orders(frames)
        found += [order.first, order.whole]
    assert min(found) > 0.001
    assert sum(p < 0.5 for p in found) in range(3, 14)
