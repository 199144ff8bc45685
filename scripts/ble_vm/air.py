"""The air between the guests: adapters served on sockets, who hears what and how strongly, and what was sent.

With a trace folder, `air.jsonl` keeps every packet on the air and NAME.btsnoop every byte between the guest
NAME and its adapter; `scripts.ble_vm.trace` reads both.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, Self, cast

from bumble.link import LocalLink
from bumble.snoop import BtSnooper, Snooper
from bumble.transport.common import PacketParser

from ble.propagation import Propagation
from scripts.ble_vm.controller import SCAN_RESPONSE, SCANNABLE, Advertisement, AirController, Variant

if TYPE_CHECKING:
    from types import TracebackType

    from bumble import ll
    from bumble.controller import Controller

_HERE: Final = (0.0, 0.0)
_STRONGEST: Final = 20  # dBm; more a report cannot say


class Air:
    """The air of one test, for guests on the running loop's machine. What it is made of may change at any time.

    distance: metres between any two guests, math.inf for none; loss: probability that a packet is lost; jitter: dB,
    standard deviation of the RSSI; exponent: of the path loss; sensitivity: dBm, the weakest that is heard;
    seed: of loss, jitter and timing; trace_dir: an existing folder for the traces, or None for no traces.
    """

    def __init__(
        self,
        *,
        distance: float = 1.0,
        loss: float = 0.0,
        jitter: float = 2.0,
        exponent: float = 1.8,
        sensitivity: float = -95.0,
        seed: int = 0,
        trace_dir: Path | None = None,
    ) -> None:
        self.distance = distance
        self.loss = loss
        self.jitter = jitter
        self.exponent = exponent
        self.sensitivity = sensitivity
        self.random = random.Random(seed)  # noqa: S311 - must be repeatable
        self.trace_dir = trace_dir
        self._link = Link(self)
        self._adapters: dict[str, tuple[AirController, _Wire]] = {}
        self._stack = AsyncExitStack()
        self._files = ExitStack()
        self._log: IO[str] | None = None

    async def __aenter__(self) -> Self:
        # Unix sockets have short paths only, so they are not put into the trace folder.
        self._folder = Path(tempfile.mkdtemp(prefix="ble-air-"))
        if self.trace_dir is not None:
            self._log = self._files.enter_context((self.trace_dir / "air.jsonl").open("w", buffering=1))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._files.close()
        self._log = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def rssi(self, tx_power: float) -> int | None:
        """Draw the RSSI, dBm, with which a packet sent with tx_power, dBm, arrives; None if it is not heard."""
        if self.random.random() < self.loss or math.isinf(self.distance):
            return None
        model = Propagation(exponent=self.exponent, fading=self.jitter)
        rssi = tx_power - model.faded(model.loss(_HERE, (self.distance, 0.0)), self.random)
        return min(_STRONGEST, round(rssi)) if rssi >= self.sensitivity else None

    async def serve(self, name: str, *, variant: Variant = Variant.EXTENDED, tx_power: int = 0, sets: int = 8) -> Path:
        """Serve an adapter for the guest of this name. Returns the path of a socket that speaks HCI (H4).

        tx_power: dBm; sets: how many advertisements an extended controller sends at once.
        """
        snooper: Snooper | None = None
        if self.trace_dir is not None:
            # Like the log, written as it happens: a trace is read while the test still runs.
            file = self._files.enter_context((self.trace_dir / f"{name}.btsnoop").open("wb", buffering=0))
            snooper = BtSnooper(cast("BinaryIO", file))
        number = len(self._link.controllers) + 1
        wire = _Wire(snooper)
        controller = AirController(
            name, self._link, wire, f"00:00:5E:00:53:{number:02X}", variant=variant, tx_power=tx_power, sets=sets
        )
        wire.parser.set_packet_sink(_Snooped(controller, snooper))
        self._adapters[name] = controller, wire
        path = self._folder / f"{name}.hci"
        server = await asyncio.get_running_loop().create_unix_server(lambda: wire, path)

        async def stop() -> None:
            controller.silence()
            server.close()
            wire.close()
            await server.wait_closed()

        self._stack.push_async_callback(stop)
        return path

    def unplug(self, name: str) -> None:
        """Take the power from an adapter, which has it again at once and waits for its guest to attach it anew."""
        controller, wire = self._adapters[name]
        controller.lose_power()
        wire.parser.reset()  # a packet that was cut off is never completed

    def sent(self, by: str, sent: Advertisement, heard: dict[str, int], kind: str | None = None) -> None:
        """Write one packet into the log; heard: RSSI, dBm, by the names of those that the packet reached."""
        if self._log is not None:
            line = {
                "at": time.time(),
                "by": by,
                "kind": kind or sent.kind,
                "address": sent.address.to_string(with_type_qualifier=False),
                "address_type": "public" if sent.address.is_public else "random",
                "data": sent.data.hex(),
                "heard": heard,
            }
            self._log.write(json.dumps(line) + "\n")


class Link(LocalLink):
    """Carries packets from one controller to the others, as the Air says."""

    controllers: set[Controller]

    def __init__(self, air: Air) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.air = air
        self.random = air.random

    def send_advertising_pdu(self, sender_controller: Controller, packet: ll.AdvertisingPdu) -> None:
        """Let every other controller hear an advertisement, or not."""
        if not isinstance(packet, Advertisement):
            super().send_advertising_pdu(sender_controller, packet)
            return
        # In a fixed order, so that the same seed gives the same air.
        others = sorted((cast("AirController", other) for other in self.controllers - {sender_controller}), key=_name)
        reached: dict[str, int] = {}
        asking: list[AirController] = []
        for other in others:
            rssi = self.air.rssi(packet.tx_power)
            if rssi is not None:
                reached[other.name] = rssi
                other.hear(packet, rssi)
                if packet.event_type & SCANNABLE and other.active_scan:
                    asking.append(other)
        self.air.sent(sender_controller.name, packet, reached)
        for other in asking:
            self._scan_response(sender_controller, other, packet, reached[other.name])

    def _scan_response(self, by: Controller, to: AirController, packet: Advertisement, rssi: int) -> None:
        """Put the two packets of an active scan on the air; whoever hears the one hears the other."""
        request = replace(packet, address=to.scan_address, data=b"")
        self.air.sent(to.name, request, {}, kind="SCAN_REQ")
        answer = replace(packet, event_type=packet.event_type | SCAN_RESPONSE, data=packet.scan_response)
        self.air.sent(by.name, answer, {to.name: rssi})
        to.hear(answer, rssi)


def _name(controller: Controller) -> str:
    return controller.name


class _Wire(asyncio.Protocol):
    """The serial line between a guest and its controller: bytes in, packets out. One guest connects, once."""

    def __init__(self, snooper: Snooper | None) -> None:
        self.parser = PacketParser()
        self._snooper = snooper
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_packet(self, packet: bytes) -> None:
        """Send a packet from the controller to the guest."""
        if self._transport is not None and not self._transport.is_closing():
            if self._snooper is not None:
                self._snooper.snoop(packet, Snooper.Direction.CONTROLLER_TO_HOST)
            self._transport.write(packet)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class _Snooped:
    """Hands packets to a controller, noting them on the way."""

    def __init__(self, controller: AirController, snooper: Snooper | None) -> None:
        self._controller = controller
        self._snooper = snooper

    def on_packet(self, packet: bytes) -> None:
        if self._snooper is not None:
            self._snooper.snoop(packet, Snooper.Direction.HOST_TO_CONTROLLER)
        self._controller.on_packet(packet)
