"""The radio of Windows: advertising through BluetoothLEAdvertisementPublisher, listening through bleak.

Windows lets a program broadcast manufacturer data, and gives it another random address each time a publisher is
started. So each frame has a publisher of its own: started, left on air, stopped, thrown away. A publisher that does
not say that it has stopped may be on air still, so no other is started until it does.

Windows names no adapters: it is always its default one that is used. Both interfaces of this module are in the
packages that bleak brings. It was written against their type stubs, and has not been run on Windows yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from winrt.windows.devices.bluetooth import BluetoothAdapter, BluetoothError
from winrt.windows.devices.bluetooth.advertisement import (
    BluetoothLEAdvertisementPublisher,
    BluetoothLEAdvertisementPublisherStatus,
    BluetoothLEManufacturerData,
)
from winrt.windows.devices.radios import RadioState

from ble.carriage import Carriage
from ble.failure import failure, of_exception
from ble.radio import Clock, RadioError, Reason, Sighting, SystemClock
from ble.rotating import RotatingRadio
from ble.rotation import DWELL
from ble.scanner import Scanner

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from winrt.windows.devices.bluetooth.advertisement import (
        BluetoothLEAdvertisementPublisherStatusChangedEventArgs,
    )

    from ble.frame import Frame

CALL = 5.0  # seconds to tell the adapter's state
START = 10.0  # seconds; users report that a start can take several
STOP = 5.0  # seconds
POLL = 0.25  # seconds without news after which a publisher is asked for its status
WATCH = 5.0  # seconds between two looks at the adapter while listening

_Status = BluetoothLEAdvertisementPublisherStatus
_ENDED = (_Status.STOPPED, _Status.ABORTED)

_ABORTED = {
    BluetoothError.RADIO_NOT_AVAILABLE: Reason.OFF,
    BluetoothError.DISABLED_BY_POLICY: Reason.DENIED,
    BluetoothError.DISABLED_BY_USER: Reason.DENIED,
    BluetoothError.CONSENT_REQUIRED: Reason.DENIED,
    BluetoothError.NOT_SUPPORTED: Reason.UNSUPPORTED,
    BluetoothError.TRANSPORT_NOT_SUPPORTED: Reason.UNSUPPORTED,
}

# HRESULTs, which Python gives as the signed `winerror` of an OSError.
_HRESULT = {
    0x80070005 - (1 << 32): Reason.DENIED,  # E_ACCESSDENIED
    0x80070032 - (1 << 32): Reason.UNSUPPORTED,  # ERROR_NOT_SUPPORTED
    0x800710DF - (1 << 32): Reason.OFF,  # ERROR_DEVICE_NOT_AVAILABLE: "the device is not ready for use"
}

_log = logging.getLogger(__name__)


class WindowsRadio(RotatingRadio):
    """The default adapter of this machine. Until it is told to do something it does nothing."""

    def __init__(
        self,
        *,
        carriage: Carriage | None = None,
        tx_power: int = 0,
        dwell: float = DWELL,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Use the default adapter, taken to send with `tx_power` dBm."""
        carriage = carriage or Carriage()
        super().__init__(
            WindowsSender(carriage.company),
            Scanner(clock or SystemClock(), carriage),
            tx_power=tx_power,
            dwell=dwell,
            chance=chance,
        )

    async def sightings(self) -> AsyncGenerator[Sighting]:
        """Give every frame heard; see `Radio.sightings`. One listener at a time."""
        await check_adapter()
        # Frames have no scan response, and asking for one would send an address of this machine after each.
        scan = self._scanner.sightings(mode="passive")
        async with _watch(self._scanner.fail), contextlib.aclosing(scan):
            async for sighting in scan:
                yield sighting


class WindowsSender:
    """Puts single frames on air."""

    def __init__(self, company: int) -> None:
        """Send manufacturer data under this 16-bit company id."""
        self._company = company
        self._publications: list[_Publication] = []  # that may be on air

    async def show(self, frame: Frame) -> None:
        """Publish this frame. Raises RadioError, and nothing is on air then, or nothing new."""
        await self._end_all()
        if self._publications:
            raise failure(Reason.FAILED, "Windows does not take the former frame off the air")
        await check_adapter()
        publication = _Publication(self._company, frame.encode())
        self._publications.append(publication)
        try:
            await publication.start()
        except BaseException:  # what is cancelled may be on its way to the air
            await self._end_all()
            raise

    async def hide(self) -> None:
        """Stop the publisher, if there is one; one that does not stop is tried again before the next frame."""
        await self._end_all()

    async def _end_all(self) -> None:
        for publication in self._publications:
            publication.stop()
        try:
            async with asyncio.timeout(STOP):
                while self._publications:
                    await self._publications[0].ended()
                    self._publications.pop(0).forget()
        except TimeoutError:
            _log.warning("Windows does not say that a frame is off the air; no other is sent until it does")


class _Publication:
    """A publisher and what it tells. Its events come on threads of Windows and are handed to the event loop."""

    def __init__(self, company: int, data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._started = False
        self._error: BluetoothError | None = None
        with _windows_errors():
            self._publisher = BluetoothLEAdvertisementPublisher()
            self._publisher.advertisement.manufacturer_data.append(BluetoothLEManufacturerData(company, data))
            self._status = self._publisher.status
            self._token = self._publisher.add_status_changed(self._changed)

    async def start(self) -> None:
        """Return once it is on air. Raises RadioError."""
        with _windows_errors():
            self._publisher.start()
            self._started = True
            async with asyncio.timeout(START):
                await self._until(_Status.STARTED, *_ENDED)
        if self._status != _Status.STARTED:
            raise _of_aborted(self._error)

    def stop(self) -> None:
        """Ask it to stop."""
        with contextlib.suppress(OSError):  # whether it did is what counts, and that is asked
            self._publisher.stop()

    async def ended(self) -> None:
        """Return once it is off the air. One that was never started is."""
        if self._started:
            await self._until(*_ENDED)

    def forget(self) -> None:
        """Want no more news of it."""
        with contextlib.suppress(OSError):
            self._publisher.remove_status_changed(self._token)

    async def _until(self, *wanted: BluetoothLEAdvertisementPublisherStatus) -> None:
        # Events say why it was aborted; but a status that changed without one must not be waited for in vain.
        while self._status not in wanted:
            self._news.clear()
            try:
                async with asyncio.timeout(POLL):
                    await self._news.wait()
            except TimeoutError:
                with contextlib.suppress(OSError):
                    self._status = self._publisher.status

    def _changed(
        self,
        _publisher: BluetoothLEAdvertisementPublisher,
        event: BluetoothLEAdvertisementPublisherStatusChangedEventArgs,
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._note, event.status, event.error)

    def _note(self, status: BluetoothLEAdvertisementPublisherStatus, error: BluetoothError) -> None:
        self._status, self._error = status, error
        self._news.set()


async def check_adapter() -> None:
    """Raise RadioError unless there is an adapter with Bluetooth LE, and it is on."""
    with _windows_errors():
        async with asyncio.timeout(CALL):
            adapter = await BluetoothAdapter.get_default_async()
            if adapter is None:
                raise failure(Reason.ABSENT, "There is no Bluetooth adapter")
            if not adapter.is_low_energy_supported:
                raise failure(Reason.UNSUPPORTED, "The Bluetooth adapter has no Bluetooth LE")
            radio = await adapter.get_radio_async()
        if radio.state != RadioState.ON:
            raise failure(Reason.OFF, "Bluetooth is off")


@contextlib.asynccontextmanager
async def _watch(lost: Callable[[RadioError], None]) -> AsyncIterator[None]:
    """Call `lost` when the adapter is turned off or unplugged: bleak tells neither to a scan that runs."""
    task = asyncio.create_task(_look(lost), name="watching the adapter")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _look(lost: Callable[[RadioError], None]) -> None:
    try:
        while True:
            await asyncio.sleep(WATCH)
            await check_adapter()
    except RadioError as error:
        lost(error)


@contextlib.contextmanager
def _windows_errors() -> Iterator[None]:
    """What a call of Windows raises, as RadioError."""
    try:
        yield
    except OSError as error:  # which a timeout is, too
        reason = _HRESULT.get(getattr(error, "winerror", None) or 0)
        raise of_exception(error) if reason is None else failure(reason, f"Windows says: {error}") from error


def _of_aborted(error: BluetoothError | None) -> RadioError:
    if error is None or error == BluetoothError.SUCCESS:
        return failure(Reason.FAILED, "Windows took the frame off the air, and does not say why")
    return failure(_ABORTED.get(error, Reason.FAILED), f"Windows does not broadcast: {error.name}")
