"""Advertisements of many strangers, one after the other, into an agent's ears."""

from __future__ import annotations

import random
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING

from bleak.backends.scanner import AdvertisementData

from agent import proximity
from agent.epochs import Epochs
from agent.proximity import Proximity
from ble import assembly
from ble.assembly import Assembler
from ble.carriage import COMPANY, Carriage, as_uuid
from ble.frame import BLOCK_SIZE, FRAME_SIZE, SLICE_SIZE, SLICES, Block, Frame, FrameError, carousel, key_id, xor
from ble.scanner import Scanner
from scripts.fuzzing.target import Reader, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPACITY = 8
NOON = 1_728_043_200.0
CARRIAGE = Carriage()
HONEST = [carousel(Block(bytes([number]) * 31 + b"\x01", -number).encode()) for number in range(1, 4)]

SERVICE, COMPANY_DATA, UUID, TEXT, PEER, MADE, WAIT, MIXED = range(8)


class Clock:
    """The hearer's time, which passes as an input says."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> float:
        """Seconds since 1970."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Nobody waits here."""


def seeds() -> Iterator[bytes]:
    """A peer's carousel in each carriage, an attacker's block, noise."""
    frames = [frame.encode() for frame in HONEST[0]]
    yield b"".join(bytes([SERVICE, FRAME_SIZE]) + frame for frame in frames)
    yield b"".join(bytes([COMPANY_DATA, FRAME_SIZE]) + frame for frame in frames)
    yield b"".join(bytes([UUID]) + frame + bytes([WAIT, 2]) for frame in frames)
    yield b"".join(bytes([PEER, peer, index]) for index in range(SLICES) for peer in range(3))
    yield b"".join(bytes([MADE, index]) + bytes(32) + b"\x01\x00\x00\x00" for index in range(3))
    yield b"".join(bytes([MADE, index]) + b"\xff" * BLOCK_SIZE for index in range(3))
    text = as_uuid(HONEST[1][0]).encode()
    yield bytes([TEXT, len(text)]) + text + bytes([TEXT, 3]) + b"180"
    yield bytes([MIXED, 16, 16, 1]) + frames[0] + frames[1] + frames[2] + bytes([WAIT, 255]) * 20 + bytes([PEER, 0, 0])


def check(data: bytes) -> None:
    """Whatever is on air, only what was sent whole comes out, and nothing grows beyond its bounds."""
    clock, reader = Clock(), Reader(data)
    scanner, assembler = Scanner(clock, CARRIAGE, queue=64), Assembler(capacity=CAPACITY)
    epochs = Epochs(900, 0, random.Random(1).randbytes)
    epochs.switch(epochs.fresh(NOON), NOON)
    hearer = Proximity(epochs)
    heard: set[Frame] = set()
    while reader:
        _act(reader, clock, scanner)
        for sighting in scanner._inbox:  # noqa: SLF001 - what its listener is given
            _check_frame(sighting.frame)
            heard.add(sighting.frame)
            _check_block(assembler.add(sighting.frame, sighting.at), sighting.frame, heard)
            hearer.hear(sighting)
        scanner._inbox.clear()  # noqa: SLF001
        _check_bounds(assembler)
    _check_encounters(hearer)


def _act(reader: Reader, clock: Clock, scanner: Scanner) -> None:
    """Put the next thing on air."""
    service: dict[str, bytes] = {}
    company: dict[int, bytes] = {}
    uuids: list[str] = []
    match reader.number(8):
        case 0:
            service[CARRIAGE.service] = reader.piece()
        case 1:
            company[COMPANY] = reader.piece()
        case 2:
            uuids.append(str(uuid.UUID(bytes=reader.take(16).ljust(16, b"\0"))))
        case 3:
            uuids.append(reader.piece().decode("utf-8", "replace"))
        case 4:
            frames = HONEST[reader.number(len(HONEST))]
            service[CARRIAGE.service] = frames[reader.number(SLICES)].encode()
        case 5:
            company[COMPANY] = _made(reader.number(SLICES), reader.take(BLOCK_SIZE).ljust(BLOCK_SIZE, b"\0"))
        case 6:
            clock.at += reader.number(256)
        case _:
            sizes = [reader.number(256) for _ in range(2)]
            count = reader.number(16)
            service[CARRIAGE.service], company[COMPANY] = (reader.take(size) for size in sizes)
            uuids += [str(uuid.UUID(bytes=reader.take(16).ljust(16, b"\0"))) for _ in range(count)]
    rssi = -60 if reader.number(256) else 20
    scanner.heard(None, AdvertisementData(None, company, service, uuids, None, rssi, ()))  # type: ignore[arg-type]


def _made(index: int, block: bytes) -> bytes:
    """A frame of 36 bytes that somebody chose, with their own key id, whether or not they are a block."""
    parts = [block[start : start + SLICE_SIZE] for start in range(0, BLOCK_SIZE, SLICE_SIZE)]
    return Frame(index, key_id(block), [*parts, xor(*parts)][index]).encode()


def _check_frame(frame: Frame) -> None:
    data = frame.encode()
    assert len(data) == FRAME_SIZE
    assert Frame.decode(data) == frame


def _check_block(block: Block | None, frame: Frame, heard: set[Frame]) -> None:
    if block is None:
        return
    data = block.encode()
    assert Block.decode(data) == block
    assert key_id(data) == frame.key_id
    sent = carousel(data)
    assert sent[frame.index] == frame, "the frame is a slice of this very block"
    assert len(heard.intersection(sent)) >= SLICES - 1, "nothing is rebuilt that was not sent"


def _check_bounds(assembler: Assembler) -> None:
    assert len(assembler) <= CAPACITY
    for half in (assembler._newcomers, assembler._regulars):  # noqa: SLF001
        for entry in half.values():
            assert all(len(candidates) <= assembly.CANDIDATES for candidates in entry.candidates)
            assert len(entry.blocks) <= assembly.BLOCKS
            assert entry.trials <= assembly.TRIALS


def _check_encounters(hearer: Proximity) -> None:
    assert len(hearer) <= proximity.PEERS
    for one in hearer.changed():
        assert len(one.secret) == 32
        assert any(one.secret), "a secret that everybody knows"
        assert one.first <= one.last
        assert all(sample.at >= one.first - 900 for sample in one.samples)


def alone(data: bytes) -> None:
    """The same bytes as a frame and as a block: one encoding for one thing."""
    for kind in (Frame, Block):
        try:
            decoded = kind.decode(data)
        except FrameError:
            continue
        assert decoded.encode() == data


def _both(data: bytes) -> None:
    alone(data)
    check(data)


TARGET = Target(
    name="frame",
    about="advertisements, frames and blocks of many senders, up to encounters",
    modules=("ble.frame", "ble.assembly", "ble.carriage", "agent.proximity", "agent.samples"),
    modes=(),
    seeds=seeds,
    ready=lambda: nullcontext(_both),
    longest=2048,
)
