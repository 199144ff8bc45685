"""The radio of macOS: advertising through CBPeripheralManager, listening through bleak.

macOS lets a program broadcast service UUIDs and a name, and nothing else. So a frame is one 128-bit service UUID.

What this cannot do. A program has no say over the address: macOS changes its random one about every 15 minutes, when it
likes, and not when an epoch ends. So as a rule an address lives through a change of EBID, and an EBID through a change
of address: who listens without a break can tie each to the next, and so follow a Mac as long as it is in reach. What is
heard before and after a break longer than an epoch and an address together is not tied that way. The random pauses
between frames are kept, and do not help against this; no pause would that is shorter than an address lives. Besides,
by all that is known such an advertisement can be connected to, and who connects may ask for the Mac's name. Nothing
here can change either. On Linux and Windows it is not so.

Everything used here is in the packages that bleak brings. It was written against their metadata and Apple's
documentation, and has not been run on a Mac yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

import objc
from CoreBluetooth import (
    CBUUID,
    CBAdvertisementDataServiceUUIDsKey,
    CBErrorOperationNotSupported,
    CBManagerStatePoweredOff,
    CBManagerStatePoweredOn,
    CBManagerStateResetting,
    CBManagerStateUnauthorized,
    CBManagerStateUnknown,
    CBManagerStateUnsupported,
    CBPeripheralManager,
)
from Foundation import NSObject
from libdispatch import DISPATCH_QUEUE_SERIAL, dispatch_queue_create

from ble.carriage import Carriage, as_uuid
from ble.failure import failure, of_exception
from ble.radio import Clock, RadioError, Reason, Sighting, SystemClock
from ble.rotating import RotatingRadio
from ble.rotation import DWELL
from ble.scanner import Scanner

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Callable

    from ble.frame import Frame

STATE = 15.0  # seconds for macOS to tell whether Bluetooth is on; it may have to ask the user first
START = 5.0  # seconds
STOP = 2.0  # seconds
POLL = 0.02  # seconds between two looks whether a frame is off the air, which macOS does not tell by itself

_STATES = {
    CBManagerStatePoweredOff: (Reason.OFF, "Bluetooth is off"),
    CBManagerStateUnauthorized: (Reason.DENIED, "macOS does not let this program use Bluetooth"),
    CBManagerStateUnsupported: (Reason.UNSUPPORTED, "This Mac has no Bluetooth LE that can broadcast"),
    CBManagerStateResetting: (Reason.FAILED, "The Bluetooth of macOS is starting again"),
}

_log = logging.getLogger(__name__)


class MacOSRadio(RotatingRadio):
    """The Bluetooth of this Mac. Until it is told to do something it does nothing, and asks for no permission."""

    def __init__(
        self,
        *,
        carriage: Carriage | None = None,
        tx_power: int = 0,
        dwell: float = DWELL,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Use this Mac's Bluetooth, taken to send with `tx_power` dBm."""
        self._sender = MacOSSender()
        scanner = Scanner(clock or SystemClock(), carriage or Carriage())
        super().__init__(self._sender, scanner, tx_power=tx_power, dwell=dwell, chance=chance)

    async def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame heard; see `Radio.sightings`. One listener at a time."""
        # bleak does not tell a scan that runs that Bluetooth was turned off; a peripheral manager does.
        with contextlib.closing(_Peripheral(self._scanner.fail)) as watch:
            await watch.ready()
            async with contextlib.aclosing(self._scanner.sightings()) as scan:
                async for sighting in scan:
                    yield sighting

    async def close(self) -> None:
        """Fall silent, stop listening, let the peripheral manager go."""
        await super().close()
        self._sender.close()


class MacOSSender:
    """Puts single frames on air. In doubt it drops its peripheral manager: macOS then drops what came from it."""

    def __init__(self) -> None:
        self._peripheral: _Peripheral | None = None

    async def show(self, frame: Frame) -> None:
        """Advertise this frame. Raises RadioError, and nothing is on air then."""
        if self._peripheral is None:
            self._peripheral = _Peripheral()
        # Where this fails the manager stays: the user may answer it when macOS asks for the permission.
        await self._peripheral.ready()
        try:
            await self._peripheral.start(as_uuid(frame))
        except BaseException:  # nobody knows whether it is on its way to the air
            self.close()
            raise

    async def hide(self) -> None:
        """Stop advertising."""
        if self._peripheral is None:
            return
        try:
            await self._peripheral.stop()
        except RadioError as error:
            _log.warning("%s", error)
            self.close()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the peripheral manager go, and so take whatever there is off the air."""
        peripheral, self._peripheral = self._peripheral, None
        if peripheral is not None:
            peripheral.close()


class _Peripheral:
    """A peripheral manager and what it tells. Its calls come on a thread of macOS and go to the event loop."""

    def __init__(self, lost: Callable[[RadioError], None] = lambda _error: None) -> None:
        """Call `lost` whenever Bluetooth is known not to be on."""
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._state: int | None = None
        self._starting: asyncio.Future[Any] | None = None
        # Autorelease pools, here and below: the event loop's thread has none that is ever emptied.
        with objc.autorelease_pool():
            self._delegate = SpotPeripheralDelegate.alloc().initWithPeripheral_(weakref.ref(self))
            queue = dispatch_queue_create(b"spot.peripheral", DISPATCH_QUEUE_SERIAL)
            self._manager = CBPeripheralManager.alloc().initWithDelegate_queue_(self._delegate, queue)

    async def ready(self) -> None:
        """Return once Bluetooth is known to be on. Raises RadioError."""
        try:
            async with asyncio.timeout(STATE):
                await self._told.wait()
        except TimeoutError as error:
            what = "macOS does not say whether Bluetooth may be used; where it asks for the permission, grant it"
            raise failure(Reason.FAILED, what) from error
        if self._state != CBManagerStatePoweredOn:
            raise _of_state(self._state)

    async def start(self, service_uuid: str) -> None:
        """Return once this service UUID is on air. Raises RadioError."""
        self._starting = self._loop.create_future()
        with objc.autorelease_pool():
            self._manager.startAdvertising_(
                {CBAdvertisementDataServiceUUIDsKey: [CBUUID.UUIDWithString_(service_uuid)]}
            )
        try:
            async with asyncio.timeout(START):
                error = await self._starting
        except TimeoutError as timeout:
            raise of_exception(timeout) from timeout
        finally:
            self._starting = None
        if error is not None:
            raise _of_error(error)

    async def stop(self) -> None:
        """Return once nothing is on air. Raises RadioError where macOS does not do it in time."""
        with objc.autorelease_pool():
            self._manager.stopAdvertising()
        try:
            async with asyncio.timeout(STOP):
                while self._manager.isAdvertising():  # noqa: ASYNC110 (nothing tells when)
                    await asyncio.sleep(POLL)
        except TimeoutError as error:
            raise failure(Reason.FAILED, "macOS does not take a frame off the air") from error

    def close(self) -> None:
        """Stop advertising and let the manager go."""
        with objc.autorelease_pool():
            self._manager.stopAdvertising()
            self._manager.setDelegate_(None)
            self._lost = lambda _error: None
            del self._manager, self._delegate

    def post_state(self, state: int) -> None:
        """Take the state of Bluetooth, on any thread."""
        self._post(self._note_state, state)

    def post_start(self, error: Any) -> None:
        """Take how a start went, None if well, on any thread."""
        self._post(self._note_start, error)

    def _post(self, note: Callable[[Any], None], what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(note, what)

    def _note_state(self, state: int) -> None:
        self._state = state
        if state == CBManagerStateUnknown:  # by Apple's documentation another follows at once
            self._told.clear()
            return
        self._told.set()
        if state != CBManagerStatePoweredOn:
            self._lost(_of_state(state))

    def _note_start(self, error: Any) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.set_result(error)


class SpotPeripheralDelegate(NSObject, protocols=[objc.protocolNamed("CBPeripheralManagerDelegate")]):  # type: ignore[misc, call-arg]
    """What CoreBluetooth calls; names are Objective-C's, the class's own is one for the whole process."""

    def initWithPeripheral_(self, peripheral: weakref.ref[_Peripheral]) -> SpotPeripheralDelegate | None:  # noqa: N802
        """Tell everything to this peripheral, as long as it is there."""
        me: SpotPeripheralDelegate | None = objc.super(SpotPeripheralDelegate, self).init()
        if me is not None:
            me.peripheral = peripheral
        return me

    def peripheralManagerDidUpdateState_(self, manager: Any) -> None:  # noqa: N802
        """Bluetooth is in another state, or in a first one."""
        if (peripheral := self.peripheral()) is not None:
            peripheral.post_state(manager.state())

    def peripheralManagerDidStartAdvertising_error_(self, _manager: Any, error: Any) -> None:  # noqa: N802
        """Advertising has started, unless there is an error."""
        if (peripheral := self.peripheral()) is not None:
            peripheral.post_start(error)


def _of_state(state: int | None) -> RadioError:
    reason, what = _STATES.get(state, (Reason.FAILED, f"macOS does not know the state of Bluetooth ({state})"))
    return failure(reason, what)


def _of_error(error: Any) -> RadioError:
    reason = Reason.UNSUPPORTED if error.code() == CBErrorOperationNotSupported else Reason.FAILED
    return failure(reason, f"macOS does not advertise: {error.localizedDescription()}")
