"""What ble/windows.py uses of Windows, and no more; it does as it is told, and calls back on other threads.

`python -m tests.ble.check_wheels` compares it with the real packages; it says when that was last done.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class BluetoothError(enum.IntEnum):
    SUCCESS = 0
    RADIO_NOT_AVAILABLE = 1
    RESOURCE_IN_USE = 2
    OTHER_ERROR = 4
    DISABLED_BY_POLICY = 5
    NOT_SUPPORTED = 6
    DISABLED_BY_USER = 7
    CONSENT_REQUIRED = 8
    TRANSPORT_NOT_SUPPORTED = 9


class BluetoothLEAdvertisementPublisherStatus(enum.IntEnum):
    CREATED = 0
    WAITING = 1
    STARTED = 2
    STOPPING = 3
    STOPPED = 4
    ABORTED = 5


class RadioState(enum.IntEnum):
    ON = 1
    OFF = 2


class WindowsError(OSError):
    """An OSError as it is on Windows, where it has a `winerror`."""

    def __init__(self, hresult: int) -> None:
        super().__init__(22, "told to")
        self.winerror = hresult


class Windows:
    """The machine: what is on air, what was, and what goes wrong.

    mute: the names of statuses that no publisher ever reaches; silent: of those that come without an event
    """

    def __init__(self) -> None:
        self.present = True
        self.low_energy = True
        self.state = RadioState.ON
        self.abort: BluetoothError | None = None
        self.refusal: OSError | None = None  # of the next call
        self.hangs = False
        self.mute: set[str] = set()
        self.silent: set[str] = set()
        self.publishers: list[BluetoothLEAdvertisementPublisher] = []

    @property
    def on_air(self) -> list[BluetoothLEAdvertisementPublisher]:
        up = (BluetoothLEAdvertisementPublisherStatus.STARTED, BluetoothLEAdvertisementPublisherStatus.STOPPING)
        return [publisher for publisher in self.publishers if publisher.status in up]

    @property
    def data(self) -> list[bytes]:
        """What was on air, in that order."""
        return [publisher.advertisement.manufacturer_data[0].data for publisher in self.publishers if publisher.aired]

    def modules(self) -> dict[str, ModuleType]:
        """The modules, by name, of a winrt on this machine."""
        contents: dict[str, list[type]] = {
            "winrt": [],
            "winrt.windows": [],
            "winrt.windows.devices": [],
            "winrt.windows.devices.bluetooth": [bound(BluetoothAdapter, self), BluetoothError],
            "winrt.windows.devices.bluetooth.advertisement": [
                bound(BluetoothLEAdvertisementPublisher, self),
                BluetoothLEAdvertisementPublisherStatus,
                BluetoothLEManufacturerData,
            ],
            "winrt.windows.devices.radios": [RadioState],
        }
        made = {name: ModuleType(name) for name in contents}
        for name, classes in contents.items():
            for one in classes:
                setattr(made[name], one.__name__, one)
        return made


def bound(kind: type, machine: Windows) -> type:
    return type(kind.__name__, (kind,), {"_machine": machine})


class BluetoothLEManufacturerData:
    def __init__(self, company_id: int, data: bytes, /) -> None:
        self.company_id = company_id
        self.data = data


class BluetoothLEAdvertisement:
    def __init__(self) -> None:
        self.manufacturer_data: list[BluetoothLEManufacturerData] = []


class BluetoothLEAdvertisementPublisherStatusChangedEventArgs:
    def __init__(self, status: BluetoothLEAdvertisementPublisherStatus, error: BluetoothError) -> None:
        self.status = status
        self.error = error


class BluetoothLEAdvertisementPublisher:
    _machine: Windows

    def __init__(self) -> None:
        self.advertisement = BluetoothLEAdvertisement()
        self.status = BluetoothLEAdvertisementPublisherStatus.CREATED
        self.starts = 0
        self.aired = False
        self._handlers: dict[int, Callable[..., None]] = {}
        self._machine.publishers.append(self)

    def start(self) -> None:
        assert not self._machine.on_air, "the frame before is on air still"
        raise_if_told(self._machine)
        self.starts += 1
        self.reach("WAITING")
        if self._machine.abort is not None:
            self.reach("ABORTED", self._machine.abort)
        else:
            self.reach("STARTED")

    def stop(self) -> None:
        self.reach("STOPPING")
        self.reach("STOPPED")

    def add_status_changed(self, handler: Callable[..., None], /) -> int:
        self._handlers[len(self._handlers)] = handler
        return len(self._handlers) - 1

    def remove_status_changed(self, token: int, /) -> None:
        del self._handlers[token]

    def reach(self, name: str, error: BluetoothError = BluetoothError.SUCCESS) -> None:
        status = BluetoothLEAdvertisementPublisherStatus[name]
        ended = self.status >= BluetoothLEAdvertisementPublisherStatus.STOPPED
        if ended or name in self._machine.mute:
            return
        self.status = status
        self.aired |= name == "STARTED"
        if name not in self._machine.silent:
            event = BluetoothLEAdvertisementPublisherStatusChangedEventArgs(status, error)
            for handler in list(self._handlers.values()):
                thread = threading.Thread(target=handler, args=(self, event))
                thread.start()
                thread.join()


class Radio:
    def __init__(self, state: RadioState) -> None:
        self.state = state


class BluetoothAdapter:
    _machine: Windows

    @classmethod
    async def get_default_async(cls) -> BluetoothAdapter | None:
        raise_if_told(cls._machine)
        if cls._machine.hangs:
            await asyncio.Event().wait()
        return cls() if cls._machine.present else None

    @property
    def is_low_energy_supported(self) -> bool:
        return self._machine.low_energy

    async def get_radio_async(self) -> Radio:
        return Radio(self._machine.state)


def raise_if_told(machine: Windows) -> None:
    if machine.refusal is not None:
        refusal, machine.refusal = machine.refusal, None
        raise refusal
