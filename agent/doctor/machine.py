"""What the doctor sees of this machine: software, folder, disk, key, store, agent and clock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import stat
import sys
from typing import TYPE_CHECKING

from agent import account, sealing, service
from agent.clock import clock_synchronised
from agent.doctor.backend import Joined
from agent.doctor.findings import Finding, Verdict, told
from agent.service import ServiceStatus
from agent.store import open_store
from protocol.curve import open_curve
from protocol.errors import NotJoined, SpotError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.settings import Settings


FEW_BYTES = 100 * 2**20  # a year of meetings in a ward stays below
NO_BYTES = 5 * 2**20
CLOCK_OFF = 30.0  # seconds; both sides of an encounter change their EBIDs by the clock
CLOCK_WRONG = 300.0


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
        return told("curve", error.text)
    if name == "py_ecc":
        return Finding("curve", Verdict.WARNING, "py_ecc, 100 times slower", "pip install 'spot-agent[fast]'")
    return Finding("curve", Verdict.OK, name)


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
        return told("agent", f"runs, but is not on air: {beat.health.problem}")
    return Finding("agent", Verdict.OK, "on air" if beat is not None and beat.on_air else "starting")


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
