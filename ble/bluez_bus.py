"""Talking to BlueZ over the system's D-Bus: calls with a timeout, errors as RadioError, an adapter's news."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbus_fast import BusType, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusFastError

from ble.failure import failure, of_dbus, of_exception
from ble.radio import RadioError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BLUEZ = "org.bluez"
ADAPTER = "org.bluez.Adapter1"
ADVERTISING = "org.bluez.LEAdvertisingManager1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"

CALL = 5.0  # seconds; the slowest call, registering an advertisement, takes a quarter of one
OFF = 1.0  # seconds that an adapter which is power-cycled stays off

_DAEMON = "org.freedesktop.DBus"


class RefusedError(Exception):
    """BlueZ, or the bus in its place, answered with an error; `name` is what D-Bus calls it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


@dataclass(frozen=True, slots=True)
class Adapter:
    """A Bluetooth adapter as BlueZ has it: its object path, and whether it is on and can advertise."""

    path: str
    powered: bool
    advertises: bool

    @property
    def name(self) -> str:
        """Its short name, such as hci0."""
        return self.path.rpartition("/")[2]


async def connect() -> MessageBus:
    """Open a connection to the system bus. Raises RadioError."""
    try:
        bus = MessageBus(bus_type=BusType.SYSTEM)
        async with asyncio.timeout(CALL):
            return await bus.connect()
    except AuthError as error:
        raise failure(Reason.DENIED, f"The system bus lets this user not in: {error}") from error
    except (OSError, EOFError, TimeoutError, DBusFastError) as error:
        raise of_exception(error) from error


async def disconnect(bus: MessageBus) -> None:
    """Close the connection. BlueZ forgets whatever was registered over it."""
    bus.disconnect()
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(CALL):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


async def call(bus: MessageBus, path: str, method: str, signature: str = "", *body: Any) -> list[Any]:
    """Call `interface.Method` of BlueZ's object at a path; return what it answers.

    Raises RefusedError where the answer is an error, and RadioError where none came: then nobody knows what was
    done.
    """
    if not bus.connected:  # dbus-fast would write into a closed socket, and leave an error that nobody can take
        raise failure(Reason.FAILED, "The connection to the system bus has ended")
    interface, _, member = method.rpartition(".")
    destination = _DAEMON if interface == _DAEMON else BLUEZ
    message = Message(
        destination=destination,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=list(body),
    )
    try:
        async with asyncio.timeout(CALL):
            reply = await bus.call(message)
    except (OSError, EOFError, TimeoutError, DBusFastError) as error:
        raise of_exception(error) from error
    if reply is None:  # how dbus-fast ends a call when its connection is closed meanwhile
        raise failure(Reason.FAILED, "The connection to the system bus was closed")
    if reply.message_type is MessageType.ERROR:
        text = str(reply.body[0]) if reply.body else ""
        raise RefusedError(reply.error_name or "", text)
    return list(reply.body)


async def find_adapter(bus: MessageBus, name: str | None) -> Adapter:
    """Return the adapter of this name; None: the first that is on and can advertise. Raises RadioError."""
    try:
        (objects,) = await call(bus, "/", f"{OBJECTS}.GetManagedObjects")
    except RefusedError as refusal:
        raise of_dbus(refusal.name, refusal.text) from refusal
    adapters = [
        Adapter(path, bool(unpack_variants(interfaces[ADAPTER])["Powered"]), ADVERTISING in interfaces)
        for path, interfaces in objects.items()
        if ADAPTER in interfaces and name in (None, path.rpartition("/")[2])
    ]
    if not adapters:
        raise failure(Reason.ABSENT, f"There is no Bluetooth adapter {name or ''}".rstrip())
    best = max(sorted(adapters, key=lambda one: one.path), key=lambda one: (one.powered, one.advertises))
    if not best.powered:
        raise failure(Reason.OFF, f"Bluetooth adapter {best.name} is off")
    return best


async def check_powered(bus: MessageBus, adapter: Adapter) -> None:
    """Raise RadioError unless the adapter is there and on, now."""
    try:
        (powered,) = await call(bus, adapter.path, f"{PROPERTIES}.Get", "ss", ADAPTER, "Powered")
    except RefusedError as refusal:
        raise of_dbus(refusal.name, refusal.text) from refusal
    if not powered.value:
        raise failure(Reason.OFF, f"Bluetooth adapter {adapter.name} is off")


async def power_cycle(bus: MessageBus, adapter: Adapter) -> None:
    """Switch the adapter off and, whatever happens, on again. Raises RadioError."""
    try:
        await _switch(bus, adapter, on=False)
        await asyncio.sleep(OFF)
    finally:
        await _switch(bus, adapter, on=True)


async def _switch(bus: MessageBus, adapter: Adapter, *, on: bool) -> None:
    try:
        await call(bus, adapter.path, f"{PROPERTIES}.Set", "ssv", ADAPTER, "Powered", Variant("b", on))
    except RefusedError as refusal:
        raise of_dbus(refusal.name, refusal.text) from refusal


@contextlib.asynccontextmanager
async def watch(adapter: Adapter, lost: Callable[[RadioError], None]) -> AsyncIterator[None]:
    """Call `lost` when the adapter is turned off or unplugged, or when BlueZ or the bus go away.

    bleak tells none of these to a scan that runs: it would be silent for ever. Raises RadioError.
    """
    bus = await connect()
    ended = asyncio.create_task(_tell_end(bus, lost), name="watching the bus")
    try:
        bus.add_message_handler(lambda message: _tell(message, adapter, lost))
        for rule in _rules(adapter):
            await _subscribe(bus, rule)
        yield
    finally:
        await disconnect(bus)
        ended.cancel()
        await asyncio.wait({ended})


async def _subscribe(bus: MessageBus, rule: str) -> None:
    try:
        await call(bus, "/org/freedesktop/DBus", f"{_DAEMON}.AddMatch", "s", rule)
    except RefusedError as refusal:
        raise of_dbus(refusal.name, refusal.text) from refusal


def _rules(adapter: Adapter) -> tuple[str, ...]:
    return (
        f"type='signal',sender='{_DAEMON}',member='NameOwnerChanged',arg0='{BLUEZ}'",
        f"type='signal',sender='{BLUEZ}',interface='{PROPERTIES}',path='{adapter.path}',arg0='{ADAPTER}'",
        f"type='signal',sender='{BLUEZ}',interface='{OBJECTS}',member='InterfacesRemoved'",
    )


def _tell(message: Message, adapter: Adapter, lost: Callable[[RadioError], None]) -> None:
    if message.message_type is not MessageType.SIGNAL:
        return
    match message.member, message.body:
        case "NameOwnerChanged", [str(name), _, ""] if name == BLUEZ:
            lost(failure(Reason.ABSENT, "The Bluetooth service has stopped"))
        case "PropertiesChanged", [_, dict(changed), _] if message.path == adapter.path:
            if unpack_variants(changed).get("Powered") is False:
                lost(failure(Reason.OFF, f"Bluetooth adapter {adapter.name} was turned off"))
        case "InterfacesRemoved", [adapter.path, list(interfaces)] if ADAPTER in interfaces:
            lost(failure(Reason.ABSENT, f"Bluetooth adapter {adapter.name} was removed"))


async def _tell_end(bus: MessageBus, lost: Callable[[RadioError], None]) -> None:
    with contextlib.suppress(OSError, EOFError):  # how it ended makes no difference
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    lost(failure(Reason.FAILED, "The connection to the system bus has ended"))
