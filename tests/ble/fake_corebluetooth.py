"""What ble/macos.py uses of macOS, and no more; it does as it is told, and calls back on other threads.

`python -m tests.ble.check_wheels` compares it with the real packages; it says when that was last done.
"""

from __future__ import annotations

import contextlib
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = {"CBAdvertisementDataServiceUUIDsKey": "kCBAdvDataServiceUUIDs"}
CONSTANTS = {
    "CBErrorOperationNotSupported": 13,
    "CBManagerStateUnknown": 0,
    "CBManagerStateResetting": 1,
    "CBManagerStateUnsupported": 2,
    "CBManagerStateUnauthorized": 3,
    "CBManagerStatePoweredOff": 4,
    "CBManagerStatePoweredOn": 5,
}
ON = CONSTANTS["CBManagerStatePoweredOn"]


class NSObject:
    """A class of Objective-C: made by alloc and an init."""

    def __init_subclass__(cls, protocols: list[str] | None = None) -> None:
        cls.protocols = protocols  # type: ignore[attr-defined]

    @classmethod
    def alloc(cls) -> Any:
        return cls()

    def init(self) -> Any:
        return self


class NSError:
    def __init__(self, code: int) -> None:
        self._code = code

    def code(self) -> int:
        return self._code

    def localizedDescription(self) -> str:  # noqa: N802
        return f"error {self._code}"


class Mac:
    """The machine: what is on air, what was, and what goes wrong."""

    def __init__(self) -> None:
        self.state: int | None = ON  # None: not told
        self.error: NSError | None = None
        self.mute = False  # starts, and tells nothing
        self.sticky = False  # does not stop
        self.shown: list[dict[str, list[str]]] = []
        self.managers: list[CBPeripheralManager] = []

    @property
    def on_air(self) -> list[dict[str, list[str]]]:
        return [manager.advertised for manager in self.managers if manager.advertised is not None]

    def turn(self, state: int) -> None:
        """Let Bluetooth be in another state; below ON it stops what is advertised."""
        self.state = state
        for manager in self.managers:
            if state != ON:
                manager.advertised = None
            manager.tell_state()

    def modules(self) -> dict[str, ModuleType]:
        """The modules, by name, of PyObjC on this machine."""
        manager = type("CBPeripheralManager", (CBPeripheralManager,), {"machine": self})
        contents: dict[str, dict[str, Any]] = {
            "objc": {"autorelease_pool": contextlib.nullcontext, "protocolNamed": str, "super": super},
            "CoreBluetooth": {"CBUUID": CBUUID, "CBPeripheralManager": manager, **KEYS, **CONSTANTS},
            "Foundation": {"NSObject": NSObject},
            "libdispatch": {"DISPATCH_QUEUE_SERIAL": None, "dispatch_queue_create": lambda label, kind: label},
        }
        made = {name: ModuleType(name) for name in contents}
        for name, values in contents.items():
            vars(made[name]).update(values)
        return made


class CBUUID:
    @classmethod
    def UUIDWithString_(cls, text: str) -> str:  # noqa: N802
        return text


class CBPeripheralManager(NSObject):
    machine: ClassVar[Mac]

    def initWithDelegate_queue_(self, delegate: Any, queue: bytes) -> CBPeripheralManager:  # noqa: N802
        assert "CBPeripheralManagerDelegate" in type(delegate).protocols
        assert isinstance(queue, bytes)
        self.delegate = delegate
        self.advertised: dict[str, list[str]] | None = None
        self.machine.managers.append(self)
        self.tell_state()
        return self

    def state(self) -> int | None:
        return self.machine.state

    def startAdvertising_(self, data: dict[str, list[str]]) -> None:  # noqa: N802
        assert not self.machine.on_air, "the frame before is on air still"
        assert self.machine.state == ON
        error = self.machine.error
        if error is None:
            self.advertised = data
            self.machine.shown.append(data)
        if not self.machine.mute:
            elsewhere(lambda: self.delegate.peripheralManagerDidStartAdvertising_error_(self, error))

    def stopAdvertising(self) -> None:  # noqa: N802
        if not self.machine.sticky:
            self.advertised = None

    def isAdvertising(self) -> bool:  # noqa: N802
        return self.advertised is not None

    def setDelegate_(self, delegate: Any) -> None:  # noqa: N802
        # Let go: what it advertised goes with its connection to the system.
        assert delegate is None
        self.delegate = None
        self.advertised = None

    def tell_state(self) -> None:
        if self.machine.state is not None and self.delegate is not None:
            elsewhere(lambda: self.delegate.peripheralManagerDidUpdateState_(self))


def elsewhere(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
