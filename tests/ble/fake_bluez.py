"""A bluetoothd for tests: the part of org.bluez that a radio talks to, on a real bus of its own.

It answers as BlueZ does, keeps what was on air and in which order, and misbehaves when told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import BusType, Message, MessageType, RequestNameReply, Variant, unpack_variants
from dbus_fast.aio import MessageBus

from tests.ble.waiting import eventually

ADVERTISING = "org.bluez.LEAdvertisingManager1"
ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"


@dataclass(slots=True)
class Shown:
    """One advertisement that was on air: who registered it, under which path, with which properties."""

    sender: str
    path: str
    properties: dict[str, Any]
    signatures: dict[str, str]


@dataclass(slots=True)
class FakeBlueZ:
    """The daemon. `refuse` maps a method to the error it answers, `ignore` holds methods it never answers."""

    adapters: dict[str, bool] = field(default_factory=lambda: {"hci0": True})
    advertises: bool = True
    refuse: dict[str, str] = field(default_factory=dict)
    ignore: set[str] = field(default_factory=set)
    on_air: list[Shown] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)  # what happened, and to which path or member
    shown: list[Shown] = field(default_factory=list)
    filters: list[dict[str, Any]] = field(default_factory=list)
    _bus: MessageBus | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _devices: Any = field(default_factory=itertools.count)

    async def start(self) -> None:
        self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        self._bus.add_message_handler(self._take)
        rules = (
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'",
            "type='signal',member='PropertiesChanged',path_namespace='/spot'",
        )
        for rule in rules:
            await self._bus.call(_bus_call("AddMatch", rule))
        assert await self._bus.request_name("org.bluez") is RequestNameReply.PRIMARY_OWNER

    async def stop(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
            with contextlib.suppress(OSError, EOFError):  # where the bus itself has ended
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self.on_air.clear()

    def hear(self, rssi: int | None, **data: Any) -> str:
        """Report an advertisement from an address not heard before; return its path."""
        number = next(self._devices)
        path = f"/org/bluez/hci0/dev_{number}"
        properties = {
            "Adapter": Variant("o", "/org/bluez/hci0"),
            "Address": Variant("s", f"00:00:00:00:{number >> 8:02X}:{number & 255:02X}"),
            "Alias": Variant("s", "somebody"),
            **_advertised(rssi, data),
        }
        self._signal(
            "/", "org.freedesktop.DBus.ObjectManager.InterfacesAdded", "oa{sa{sv}}", path, {DEVICE: properties}
        )
        return path

    def hear_again(self, path: str, rssi: int | None, **data: Any) -> None:
        self.change(path, DEVICE, _advertised(rssi, data))

    def switch(self, adapter: str, on: bool) -> None:
        """Turn an adapter on or off. Off, it loses what it advertises and tells nobody."""
        self.adapters[adapter] = on
        if not on:
            self.on_air.clear()
        self.change(f"/org/bluez/{adapter}", ADAPTER, {"Powered": Variant("b", on)})

    def unplug(self, adapter: str) -> None:
        del self.adapters[adapter]
        self.on_air.clear()
        interfaces = [ADAPTER, ADVERTISING]
        self._signal(
            "/", "org.freedesktop.DBus.ObjectManager.InterfacesRemoved", "oas", f"/org/bluez/{adapter}", interfaces
        )

    def change(self, path: str, interface: str, properties: dict[str, Variant]) -> None:
        self._signal(path, "org.freedesktop.DBus.Properties.PropertiesChanged", "sa{sv}as", interface, properties, [])

    async def until(self, what: str, times: int = 1) -> None:
        """Wait for something to have happened that many times."""
        await eventually(lambda: sum(1 for event, _ in self.log if event == what) >= times)

    def _send(self, message: Message) -> None:
        assert self._bus is not None
        sent = self._bus.send(message)
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody is there: so be it

    def _signal(self, path: str, name: str, signature: str, *body: Any) -> None:
        interface, _, member = name.rpartition(".")
        signal = Message.new_signal(path, interface, member, signature, list(body))
        self._send(signal)

    def _take(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self._take_signal(message)
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        member = str(message.member)
        self.log.append((member, str(message.path)))
        if member in self.ignore:
            return True
        if member in self.refuse:
            return Message.new_error(message, self.refuse[member], "refused for a test")
        if member == "RegisterAdvertisement":
            task = asyncio.create_task(self._register(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True
        return self._answer(message, member)

    def _take_signal(self, message: Message) -> None:
        if message.member == "PropertiesChanged":
            self.log.append(("altered", str(message.path)))
        elif message.member == "NameOwnerChanged" and message.body[2] == "":
            gone = message.body[0]
            for shown in [shown for shown in self.on_air if shown.sender == gone]:
                self._take_down(shown)

    def _answer(self, message: Message, member: str) -> Message:
        known = str(message.path).rpartition("/")[2] in self.adapters or message.path == "/"
        match member:
            case "GetManagedObjects":
                return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._objects()])
            case _ if not known:
                return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", "no such adapter")
            case "Get":
                powered = Variant("b", self.adapters[str(message.path).rpartition("/")[2]])
                return Message.new_method_return(message, "v", [powered])
            case "Set":
                self.switch(str(message.path).rpartition("/")[2], on=message.body[2].value)
                self.log.append(("on" if message.body[2].value else "off", str(message.path)))
                return Message.new_method_return(message)
            case "UnregisterAdvertisement":
                return self._unregister(message)
            case "SetDiscoveryFilter":
                self.filters.append(unpack_variants(message.body[0]))
                return Message.new_method_return(message)
            case "StartDiscovery" | "StopDiscovery":
                return Message.new_method_return(message)
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", member)

    def _objects(self) -> dict[str, dict[str, dict[str, Variant]]]:
        interfaces = [ADAPTER, ADVERTISING] if self.advertises else [ADAPTER]
        return {
            f"/org/bluez/{name}": {
                interface: {
                    "Powered": Variant("b", powered),
                    "Roles": Variant("as", ["central", "peripheral"]),
                    "Modalias": Variant("s", "usb:v1D6Bp0246d0552"),  # BlueZ 5.82
                    "SupportedInstances": Variant("y", 4),
                    "ActiveInstances": Variant("y", 1),
                }
                for interface in interfaces
            }
            for name, powered in self.adapters.items()
        }

    async def _register(self, message: Message) -> None:
        assert self._bus is not None
        (path, _) = message.body
        ask = Message(
            destination=message.sender,
            path=path,
            interface="org.freedesktop.DBus.Properties",
            member="GetAll",
            signature="s",
            body=["org.bluez.LEAdvertisement1"],
        )
        reply = await self._bus.call(ask)
        if reply is None or self._bus is None:
            return
        if reply.message_type is MessageType.ERROR:
            self._send(Message.new_error(message, "org.bluez.Error.Failed", "no such advertisement"))
            return
        raw = reply.body[0]
        signatures = {name: value.signature for name, value in raw.items()}
        shown = Shown(str(message.sender), path, unpack_variants(raw), signatures)
        self.on_air.append(shown)
        self.shown.append(shown)
        self.log.append(("on air", path))
        self._send(Message.new_method_return(message))

    def _unregister(self, message: Message) -> Message:
        for shown in self.on_air:
            if (shown.sender, shown.path) == (message.sender, message.body[0]):
                self._take_down(shown)
                return Message.new_method_return(message)
        return Message.new_error(message, "org.bluez.Error.DoesNotExist", "Does Not Exist")

    def _take_down(self, shown: Shown) -> None:
        self.on_air.remove(shown)
        self.log.append(("off air", shown.path))


def _advertised(rssi: int | None, data: dict[str, Any]) -> dict[str, Variant]:
    kinds = {"ServiceData": "a{sv}", "ManufacturerData": "a{qv}", "UUIDs": "as"}
    properties = {name: Variant(kinds[name], value) for name, value in data.items()}
    if rssi is not None:
        properties["RSSI"] = Variant("n", rssi)
    return properties


def _bus_call(member: str, argument: str) -> Message:
    return Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member=member,
        signature="s",
        body=[argument],
    )
