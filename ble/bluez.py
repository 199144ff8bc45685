"""The radio of Linux: advertising through BlueZ's LEAdvertisingManager1, listening through bleak.

BlueZ gives an advertisement of type "broadcast" a fresh random address whenever one is registered, and at no
other time. So each frame is an advertisement of its own: registered, left on air, unregistered, under a path
used once. A registered one is never altered: BlueZ could send new data under the old address, and BlueZ 5.66
aborts when an advertisement is altered while the adapter is off.

An adapter that is switched off keeps the frame that was on air: the kernel does not remove it then, sends it again when
the adapter is on, and, on controllers without extended advertising, would give the next frame's data to its address for
a millisecond. So that frame itself is registered once more and removed, before any other is.

One thing is out of reach: a bluetoothd that dies leaves its last frame with the kernel, which goes on sending it until
bluetoothd is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Annotated

from dbus_fast import PropertyAccess, Variant
from dbus_fast.annotations import DBusDict, DBusSignature, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from ble.bluez_bus import (
    ADVERTISING,
    Adapter,
    RefusedError,
    call,
    check_powered,
    connect,
    disconnect,
    find_adapter,
    power_cycle,
    watch,
)
from ble.carriage import Carriage
from ble.failure import failure, of_dbus
from ble.radio import Clock, RadioError, Reason, Sighting, SystemClock
from ble.rotating import RotatingRadio
from ble.rotation import DWELL
from ble.scanner import Scanner

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator

    from bleak.args.bluez import BlueZDiscoveryFilters
    from dbus_fast.aio import MessageBus

    from ble.frame import Frame

# Without an RSSI filter BlueZ keeps back readings that differ by less than 8 dB, and without either of the
# two BlueZ 5.82 drops, on an adapter without classic Bluetooth, what is not marked as discoverable: all of
# our frames.
FILTERS: BlueZDiscoveryFilters = {"RSSI": -120, "DuplicateData": True}
CLEAR = 0.1  # seconds of silence after what the kernel had kept was removed


class BlueZRadio(RotatingRadio):
    """One adapter of this machine, as BlueZ offers it. Until it is told to do something it does nothing."""

    def __init__(
        self,
        adapter: str | None = None,
        *,
        carriage: Carriage | None = None,
        tx_power: int = 0,
        dwell: float = DWELL,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Use this adapter (such as hci0; None: the first that is on), taken to send with `tx_power` dBm."""
        carriage = carriage or Carriage()
        self._adapter = adapter
        self._sender = BlueZSender(adapter, carriage.service)
        scanner = Scanner(clock or SystemClock(), carriage)
        super().__init__(self._sender, scanner, tx_power=tx_power, dwell=dwell, chance=chance)

    async def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame heard; see `Radio.sightings`. One listener at a time."""
        bus = await connect()
        try:
            adapter = await find_adapter(bus, self._adapter)
        finally:
            await disconnect(bus)
        scan = self._scanner.sightings({"adapter": adapter.name, "filters": FILTERS})
        async with watch(adapter, self._scanner.fail), contextlib.aclosing(scan):
            async for sighting in scan:
                yield sighting

    async def power_cycle(self) -> None:
        """Switch the adapter off and on; see `Radio.power_cycle`."""
        bus = await connect()
        try:
            await power_cycle(bus, await find_adapter(bus, self._adapter))
        finally:
            await disconnect(bus)

    async def close(self) -> None:
        """Fall silent, stop listening, let the adapter go."""
        await super().close()
        await self._sender.close()


class BlueZSender:
    """Puts single frames on air. In doubt it closes its connection: BlueZ then drops what came over it."""

    def __init__(self, adapter: str | None, service: str) -> None:
        """Use this adapter (None: the first that is on), and this service UUID in full."""
        self._wanted = adapter
        self._service = service
        self._bus: MessageBus | None = None
        self._adapter: Adapter | None = None
        self._path: str | None = None  # of what is registered
        self._last: Frame | None = None  # that was on air
        self._stale: Frame | None = None  # that the kernel may have kept
        self._numbers = itertools.count()

    async def show(self, frame: Frame) -> None:
        """Register an advertisement with this frame. Raises RadioError, and nothing is on air then."""
        try:
            await self._clear()
            await self._register(frame)
        except RefusedError as refusal:
            error = of_dbus(refusal.name, refusal.text)
            await self._give_up(error)
            raise error from refusal
        except RadioError as error:
            await self._give_up(error)
            raise
        except BaseException:  # a cancellation: nobody knows whether it was registered
            await self._let_go()
            raise
        self._last = frame

    async def hide(self) -> None:
        """Unregister the advertisement, if there is one."""
        try:
            await self._unregister()
        except RefusedError as refusal:
            if not refusal.name.endswith(".DoesNotExist"):  # which would be as well: BlueZ dropped it
                await self._let_go()
        except RadioError as error:
            await self._give_up(error)
        except BaseException:
            await self._let_go()
            raise

    async def close(self) -> None:
        """Close the connection, and so take whatever there is off the air."""
        await self._let_go()

    async def _clear(self) -> None:
        """Remove what the kernel may have kept of a frame, by what can only show that frame."""
        if self._stale is not None:
            await self._register(self._stale)
            await self._unregister()
            await asyncio.sleep(CLEAR)
            self._stale = None

    async def _register(self, frame: Frame) -> None:
        bus, adapter = await self._ready()
        # What is registered is silently lost while an adapter is off, so being off has to be an error here.
        await check_powered(bus, adapter)
        self._path = f"/spot/advertisement{next(self._numbers)}"
        bus.export(self._path, _Advertisement(self._service, frame.encode()))
        method = f"{ADVERTISING}.RegisterAdvertisement"
        await call(bus, adapter.path, method, "oa{sv}", self._path, {})

    async def _unregister(self) -> None:
        path, self._path = self._path, None
        if self._bus is None or self._adapter is None or path is None:
            return
        self._bus.unexport(path)
        await call(self._bus, self._adapter.path, f"{ADVERTISING}.UnregisterAdvertisement", "o", path)
        # BlueZ says that it is done whether the kernel has removed it or not.
        await check_powered(self._bus, self._adapter)

    async def _ready(self) -> tuple[MessageBus, Adapter]:
        if self._bus is None or self._adapter is None:
            self._bus = await connect()
            self._adapter = await find_adapter(self._bus, self._wanted)
            if not self._adapter.advertises:
                raise failure(Reason.UNSUPPORTED, f"Bluetooth adapter {self._adapter.name} cannot advertise")
        return self._bus, self._adapter

    async def _give_up(self, error: RadioError) -> None:
        if error.reason is Reason.OFF:
            self._stale = self._last
        await self._let_go()

    async def _let_go(self) -> None:
        bus, self._bus, self._adapter, self._path = self._bus, None, None, None
        if bus is not None:
            await disconnect(bus)


class _Advertisement(ServiceInterface):
    """What BlueZ reads when it registers: one field of service data, 20 bytes, and nothing besides."""

    def __init__(self, service: str, data: bytes) -> None:
        super().__init__("org.bluez.LEAdvertisement1")
        self._service_data = {service: Variant("ay", data)}

    @dbus_property(access=PropertyAccess.READ, name="Type")
    def _type(self) -> DBusStr:
        return "broadcast"

    @dbus_property(access=PropertyAccess.READ, name="ServiceData")
    def _data(self) -> DBusDict:
        return self._service_data

    @dbus_method(name="Release")
    def _release(self) -> Annotated[None, DBusSignature("")]:
        """Nothing to do when BlueZ drops it: the next frame is registered anew in any case."""
