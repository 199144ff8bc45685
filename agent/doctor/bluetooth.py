"""What the doctor sees of Bluetooth without being on air: the system's part, and the adapter that would be used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.doctor.findings import Finding, Verdict, told
from ble.facts import read_facts
from ble.radio import RadioError, Reason

if TYPE_CHECKING:
    from agent.settings import Settings
    from ble.facts import AdapterFacts, BluetoothFacts


BLUETOOTH_PATIENCE = 20.0  # connecting and asking have timeouts of 5 s each
OLDEST_BLUEZ = (5, 66)  # of Debian 12; tried with nothing older


async def check_bluetooth(settings: Settings) -> list[Finding]:
    """The system's Bluetooth, and the adapter that would be used."""
    if settings.radio == "simulated":
        text = "the settings ask for the simulated radio, which hears nobody by itself"
        return [Finding("adapter", Verdict.WARNING, text, 'set radio = "auto" for real meetings')]
    try:
        async with asyncio.timeout(BLUETOOTH_PATIENCE):
            facts = await read_facts()
    except RadioError as error:
        return [told("permissions" if error.reason is Reason.DENIED else "bluetooth", str(error))]
    except TimeoutError:
        return [Finding("bluetooth", Verdict.FAULT, "does not answer", "restart it: systemctl restart bluetooth")]
    except Exception as error:  # noqa: BLE001 (answers that no BlueZ gives)
        return [Finding("bluetooth", Verdict.WARNING, f"answers strangely ({type(error).__name__})", "update BlueZ")]
    return [
        check_stack(facts),
        Finding("permissions", Verdict.OK, "this user may use Bluetooth"),
        *check_adapter(facts, settings.adapter),
    ]


def check_stack(facts: BluetoothFacts) -> Finding:
    """The version of the system's Bluetooth."""
    text = f"{facts.stack} {facts.version}".rstrip()
    if facts.stack != "BlueZ":
        return Finding("bluetooth", Verdict.OK, text)
    if not facts.version:
        return Finding("bluetooth", Verdict.WARNING, f"{text}, version unknown", "see: bluetoothctl --version")
    oldest = ".".join(map(str, OLDEST_BLUEZ))
    if tuple(int(part or 0) for part in facts.version.split(".")[:2]) < OLDEST_BLUEZ:
        return Finding("bluetooth", Verdict.WARNING, f"{text}, tried with {oldest} and newer", "update BlueZ")
    return Finding("bluetooth", Verdict.OK, text)


def check_adapter(facts: BluetoothFacts, wanted: str) -> list[Finding]:
    """The adapter that would be used: there, on, LE, room to advertise."""
    if facts.adapters is None:
        return [Finding("adapter", Verdict.OK, "shows only when on air; to check it: spot doctor --radio")]
    names = ", ".join(one.name for one in facts.adapters)
    found = [one for one in facts.adapters if wanted in ("", one.name)]
    if not found:
        if names:
            text = f"there is no {wanted}, only {names}"
            return [Finding("adapter", Verdict.FAULT, text, "name another in the setting adapter, or none")]
        remedy = "plug one in; on a Raspberry Pi, see that no dtoverlay=disable-bt is set"
        return [Finding("adapter", Verdict.FAULT, "there is no Bluetooth adapter", remedy)]
    best = max(found, key=lambda one: (one.powered, bool(one.peripheral)))  # as the radio chooses
    findings = [Finding("adapter", Verdict.OK, best.name + (f", of {names}" if len(facts.adapters) > 1 else ""))]
    return [*findings, check_powered(best), check_le(best), check_advertising(best)]


def check_powered(adapter: AdapterFacts) -> Finding:
    """Whether it is on, and what keeps it off."""
    if adapter.powered:
        return Finding("powered", Verdict.OK, f"{adapter.name} is on")
    remedies = {
        "": "bluetoothctl power on",
        "by software": "rfkill unblock bluetooth, then bluetoothctl power on",
        "by a switch": "turn the machine's switch for radios on, or leave its flight mode",
    }
    how = f", blocked {adapter.blocked}" if adapter.blocked else ""
    return Finding("powered", Verdict.FAULT, f"{adapter.name} is off{how}", remedies[adapter.blocked])


def check_le(adapter: AdapterFacts) -> Finding:
    """Whether it has LE, for listening and for sending."""
    if adapter.central is False or adapter.peripheral is False:
        missing = "listen" if adapter.central is False else "send"
        return Finding("LE", Verdict.FAULT, f"{adapter.name} cannot {missing} with LE", "use another adapter")
    return Finding("LE", Verdict.OK, "listens and sends" if adapter.central else "sends; older BlueZ tells no more")


def check_advertising(adapter: AdapterFacts) -> Finding:
    """Whether there is room for one advertisement more."""
    if adapter.free is None:
        if adapter.peripheral:
            return Finding("advertising", Verdict.WARNING, "BlueZ does not say how much room is left", "update BlueZ")
        return Finding("advertising", Verdict.FAULT, f"{adapter.name} cannot advertise", "use another adapter")
    text = f"{adapter.free} instances free, {adapter.active or 0} in use"
    if adapter.free == 0:
        return Finding("advertising", Verdict.FAULT, text, "end another program that advertises, or use two adapters")
    return Finding("advertising", Verdict.OK, text)
