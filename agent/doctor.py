"""`spot doctor`: what can be looked at without being on air, each as one finding that says what to do.

Nothing here raises or waits for ever: a check that cannot be made is a finding as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import importlib.metadata
import os
import platform
import shutil
import stat
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import account, sealing, service
from agent.clock import clock_synchronised
from agent.doctor_backend import Probe, probe_all
from agent.service import ServiceStatus
from agent.store import open_store
from agent.transport import UNCHECKED
from ble.facts import read_facts
from ble.radio import RadioError, Reason
from protocol.curve import open_curve
from protocol.errors import NotJoined, SpotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from agent.desk import Desk
    from agent.settings import Settings
    from ble.facts import AdapterFacts, BluetoothFacts

PATIENCE = 10.0  # seconds for what this machine is asked; a locked keyring would wait for a person
BLUETOOTH_PATIENCE = 20.0  # connecting and asking have timeouts of 5 s each
OLDEST_BLUEZ = (5, 66)  # of Debian 12; tried with nothing older
FEW_BYTES = 100 * 2**20  # a year of meetings in a ward stays below
NO_BYTES = 5 * 2**20
CLOCK_OFF = 30.0  # seconds; both sides of an encounter change their EBIDs by the clock
CLOCK_WRONG = 300.0
CERTIFICATE_DAYS = 14


class Verdict(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it ("" where it is ok)."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """What the store says of the backend: its URL, the proxies of each group, and the roots of their certificates."""

    url: str
    proxies: tuple[tuple[str, ...], ...]
    roots: tuple[bytes, ...] = ()


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict on all of them."""
    order = list(Verdict)
    return max((one.verdict for one in findings), key=order.index, default=Verdict.OK)


async def examine(desk: Desk, url: str = "") -> list[Finding]:
    """Everything, in the order in which it is to be mended. url: a backend to look at beside that of the store."""
    folder, settings = desk.folder, desk.settings
    findings = [check_python(), check_bleak(), check_curve(settings)]
    findings += await check_bluetooth(settings)
    findings += await _within("folder", lambda: [check_folder(folder), check_disk(folder)])
    kept: list[Joined] = []
    findings += await _within("keyring", lambda: [check_keyring(folder, settings)])
    findings += await _within("store", lambda: check_store(folder, settings, kept))
    # Before joining nobody knows which roots are the authority's: certificates are not verified then.
    trust = kept[0].roots if kept else UNCHECKED
    probes = await probe_all(dict.fromkeys([*_urls(kept), *([url.rstrip("/")] if url else [])]), trust)
    findings.append(check_clock(settings, next((one.offset for one in probes if one.offset is not None), None)))
    findings += check_backend(kept[0] if kept else None, probes)
    findings += [check_certificate(one) for one in _by_host(probes)]
    return findings


async def _within(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What `look` finds, in a thread that is left behind where it hangs: one of asyncio's would be waited for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Finding]] = loop.create_future()

    def settle(found: list[Finding]) -> None:
        if not done.done():
            done.set_result(found)

    def run() -> None:
        found = _safely(name, look)
        with contextlib.suppress(RuntimeError):  # too late: the loop is closed
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name=f"doctor: {name}", daemon=True).start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await done
    except TimeoutError:
        remedy = "see whether a window asks for a password, or whether the disk hangs"
        return [Finding(name, Verdict.FAULT, f"no answer within {PATIENCE:g} s", remedy)]


def _safely(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except SpotError as error:
        return [_told(name, error.text)]
    except OSError as error:
        return [Finding(name, Verdict.FAULT, f"the system says: {error.strerror or error}", "check disk and rights")]
    except Exception as error:  # noqa: BLE001 (a doctor that falls ill helps nobody)
        return [Finding(name, Verdict.WARNING, f"could not be checked ({type(error).__name__})", "report this, please")]


def _told(name: str, text: str) -> Finding:
    """A fault from an error whose text ends with what to do."""
    for mark in ("; ", ". ", ": "):
        what, found, remedy = text.rpartition(mark)
        if found:
            return Finding(name, Verdict.FAULT, what, remedy.rstrip("."))
    return Finding(name, Verdict.FAULT, text, "see the README")


# --- software ---


def check_python() -> Finding:
    """The interpreter."""
    text = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.maxsize < 2**32:
        return Finding("python", Verdict.WARNING, f"{text}, 32 bits", "use a 64-bit system; nothing else is tried")
    return Finding("python", Verdict.OK, text)


def check_bleak() -> Finding:
    """The library that listens."""
    try:
        version = importlib.metadata.version("bleak")
    except importlib.metadata.PackageNotFoundError:
        return Finding("bleak", Verdict.FAULT, "not installed", "install spot-agent anew")
    major, _, rest = version.partition(".")
    if major != "3" or rest.startswith("0"):
        return Finding("bleak", Verdict.WARNING, f"{version}, tried with 3.1 and later 3.x", "install spot-agent anew")
    return Finding("bleak", Verdict.OK, version)


def check_curve(settings: Settings) -> Finding:
    """The maker of curve arithmetic."""
    try:
        name = open_curve(settings.curve or None).name
    except SpotError as error:
        return _told("curve", error.text)
    if name == "py_ecc":
        return Finding("curve", Verdict.WARNING, "py_ecc, 100 times slower", "pip install 'spot-agent[fast]'")
    return Finding("curve", Verdict.OK, name)


# --- Bluetooth ---


async def check_bluetooth(settings: Settings) -> list[Finding]:
    """The system's Bluetooth, and the adapter that would be used."""
    if settings.radio == "simulated":
        text = "the settings ask for the simulated radio, which hears nobody by itself"
        return [Finding("adapter", Verdict.WARNING, text, 'set radio = "auto" for real meetings')]
    try:
        async with asyncio.timeout(BLUETOOTH_PATIENCE):
            facts = await read_facts()
    except RadioError as error:
        return [_told("permissions" if error.reason is Reason.DENIED else "bluetooth", str(error))]
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


# --- folder, disk, key, store ---


def check_folder(folder: Path) -> Finding:
    """Whether this user can work in the data folder, and others cannot."""
    if not folder.exists():
        return Finding("folder", Verdict.OK, f"{folder} will be made when joining")
    facts = folder.stat()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        owner = _owner(folder)
        return Finding("folder", Verdict.FAULT, f"{folder} belongs to {owner}", f"run as them: sudo -u {owner} spot …")
    if os.name == "posix" and stat.S_IMODE(facts.st_mode) & 0o077:
        return Finding("folder", Verdict.WARNING, f"others can look into {folder}", f"chmod 700 {folder}")
    return Finding("folder", Verdict.OK, str(folder))


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, NotImplementedError, OSError):
        return "somebody else"


def check_disk(folder: Path) -> Finding:
    """Whether there is room where the data is, or will be."""
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 2**20:,.0f} MB free in {place}"
    if hasattr(os, "statvfs"):
        facts = os.statvfs(place)
        if facts.f_flag & os.ST_RDONLY:
            remedy = "see the kernel's log: a memory card that is worn out becomes read-only"
            return Finding("disk", Verdict.FAULT, f"{place} is read-only", remedy)
        if facts.f_files and not facts.f_favail:
            return Finding("disk", Verdict.FAULT, f"no file more fits in {place}", "delete files")
    if free < NO_BYTES:
        return Finding("disk", Verdict.FAULT, text, "delete files")
    if free < FEW_BYTES:
        return Finding("disk", Verdict.WARNING, text, "delete files before it is full")
    return Finding("disk", Verdict.OK, text)


def check_keyring(folder: Path, settings: Settings) -> Finding:
    """Where the key is, or would be kept."""
    path = folder / sealing.KEY_FILE
    if settings.key != "keyring" and path.exists():
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return Finding("keyring", Verdict.FAULT, f"others can read {path}", f"chmod 600 {path}")
        return Finding("keyring", Verdict.OK, f"not used; the key is in {path}")
    if settings.key == "file":
        return Finding("keyring", Verdict.OK, "not used; the key will be in a file only you can read")
    if sealing.has_keyring():
        return Finding("keyring", Verdict.OK, "the system's keyring")
    if settings.key == "keyring":
        return Finding("keyring", Verdict.FAULT, "there is none", 'unlock it, or set key = "file"')
    return Finding("keyring", Verdict.OK, "there is none; the key will be in a file only you can read")


def check_store(folder: Path, settings: Settings, kept: list[Joined]) -> list[Finding]:
    """Whether the store opens, and what the agent does; what it says of the backend is put into `kept`."""
    try:
        store = open_store(folder, settings.key)
    except NotJoined:
        return [Finding("store", Verdict.WARNING, "not joined yet", "spot join URL --invite CODE")]
    try:
        member = store.get(account.MEMBERSHIP, account.Membership)
        if member is None or member.issued is None:
            return [Finding("store", Verdict.WARNING, "joining was not finished", "spot join URL --invite CODE")]
        if store.get(account.MOVED, float) is not None:
            return [Finding("store", Verdict.WARNING, "moved to another device", "go on there; here: spot leave")]
        now = account.read_trusted(store).parameters
        groups = now.groups
        proxies = tuple(tuple(url.rstrip("/") for url in group.proxies) for group in groups)
        kept.append(Joined(member.url.rstrip("/"), proxies, now.roots))
        running = service.is_running(folder)
        beat = store.get(service.SERVICE, ServiceStatus) if running else None
        paused = bool(store.get(service.PAUSED, bool))
    finally:
        store.close()
    return [Finding("store", Verdict.OK, "joined; it can be read"), check_agent(beat, running=running, paused=paused)]


def check_agent(beat: ServiceStatus | None, *, running: bool, paused: bool) -> Finding:
    """What the agent does now."""
    if paused:
        return Finding("agent", Verdict.WARNING, "paused", "spot resume")
    if not running:
        return Finding("agent", Verdict.WARNING, "not running", "spot run; at every start: spot service install")
    if beat is not None and beat.health.problem:
        return _told("agent", f"runs, but is not on air: {beat.health.problem}")
    return Finding("agent", Verdict.OK, "on air" if beat is not None and beat.on_air else "starting")


# --- clock and backend ---


def check_clock(settings: Settings, offset: float | None) -> Finding:
    """Whether the clock is right. offset: seconds that it is ahead of the backend's, None where that is not known."""
    if settings.clock:
        return Finding("clock", Verdict.WARNING, "the setting clock is for demonstrations", "remove it")
    remedy = "turn time synchronisation on: timedatectl set-ntp true"
    beside = "" if offset is None else f", within {max(abs(offset), 1):.0f} s of the backend's"
    if offset is not None and abs(offset) > CLOCK_OFF:
        way = "ahead of" if offset > 0 else "behind"
        verdict = Verdict.FAULT if abs(offset) > CLOCK_WRONG else Verdict.WARNING
        return Finding("clock", verdict, f"{abs(offset):.0f} s {way} the backend's", remedy)
    synchronised = clock_synchronised()
    if synchronised or (synchronised is None and offset is not None):
        return Finding("clock", Verdict.OK, ("synchronised" if synchronised else "right") + beside)
    if synchronised is None:
        text = "whether it is synchronised cannot be told here"
        return Finding("clock", Verdict.WARNING, text, "see the system's settings for date and time")
    return Finding("clock", Verdict.WARNING, f"not synchronised{beside}", remedy)


def _urls(kept: list[Joined]) -> list[str]:
    return [url for one in kept for url in (one.url, *(proxy for group in one.proxies for proxy in group))]


def check_backend(joined: Joined | None, probes: list[Probe]) -> list[Finding]:
    """Whether the authority and the proxies answer."""
    if not probes:
        text = "not known before joining"
        return [Finding("backend", Verdict.WARNING, text, "spot join URL --invite CODE, or look first: --url URL")]
    by_url = {one.url: one for one in probes}
    proxies = {} if joined is None else {url: by_url[url] for group in joined.proxies for url in group}
    authority = joined and joined.url
    findings = [_backend(one) for one in probes if one.url == authority or one.url not in proxies]
    if joined is not None:
        findings.append(_proxies(joined, proxies))
    return findings


def _backend(probe: Probe) -> Finding:
    if probe.problem:
        return Finding("backend", Verdict.FAULT, f"{probe.url} {probe.problem}", _reach(probe))
    return Finding("backend", Verdict.OK, f"{probe.url} answers in {probe.seconds * 1000:.0f} ms")


def _reach(probe: Probe) -> str:
    return "see the certificate" if probe.refused else "check the network and the URL; else ask who runs it"


def _proxies(joined: Joined, proxies: dict[str, Probe]) -> Finding:
    silent = [one for one in proxies.values() if one.problem]
    reached = sum(any(not proxies[url].problem for url in group) for group in joined.proxies)
    text = f"{len(proxies) - len(silent)} of {len(proxies)} answer, in {reached} of {len(joined.proxies)} groups"
    if not silent and proxies:
        return Finding("proxies", Verdict.OK, text)
    text += "".join(f"; {one.url} {one.problem}" for one in silent[:3])
    # Contacts go through a proxy drawn among all, and what two groups show is compared.
    verdict = Verdict.WARNING if reached >= min(2, len(joined.proxies)) and reached else Verdict.FAULT
    return Finding("proxies", verdict, text, _reach(silent[0]) if silent else "ask the authority")


def _by_host(probes: list[Probe]) -> list[Probe]:
    """One for each host and port, as several URLs have one certificate."""
    return list({one.host: one for one in probes}.values())


def check_certificate(probe: Probe) -> Finding:
    """Whether the connection is encrypted, and for how long its certificate is good."""
    if not probe.encrypted:
        if probe.local or not probe.host:
            return Finding("certificate", Verdict.OK, f"none needed for {probe.host or 'this'}, on this machine")
        text = f"{probe.host} is spoken to without encryption"
        return Finding("certificate", Verdict.WARNING, text, "ask who runs it for an https:// URL")
    if probe.refused:
        return Finding("certificate", Verdict.FAULT, f"{probe.host}: {probe.refused}", probe.remedy)
    if probe.expires is None:
        return Finding("certificate", Verdict.WARNING, f"{probe.host} was not seen", "see the line backend")
    days = (probe.expires - time.time()) / 86400
    text = f"{probe.host}: good for {days:.0f} days"
    if days < CERTIFICATE_DAYS:
        return Finding("certificate", Verdict.WARNING, text, "have who runs it renew it")
    return Finding("certificate", Verdict.OK, text)
