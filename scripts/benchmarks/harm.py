"""What scripts/bench faults does to a backend beside killing its parts: disks, network, clocks."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = Path("/usr/lib")
FAKETIME = "faketime/libfaketimeMT.so.1"
MEGABYTE = 1 << 20


def is_root() -> bool:
    """Whether mounts and network namespaces can be made."""
    return sys.platform == "linux" and os.geteuid() == 0


def command(*words: str) -> None:
    """Run a system's command. Raises CalledProcessError."""
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A file system in memory, mounted at this folder, which is made."""
    folder.mkdir(parents=True)
    command("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


class Disk:
    """A disk that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    async def fill(self, seconds: float) -> None:
        """Leave no room for so long."""
        try:
            await asyncio.to_thread(self._fill)
            await asyncio.sleep(seconds)
        finally:
            self._ballast.unlink(missing_ok=True)

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            block = bytes(MEGABYTE)
            while True:
                file.write(block)
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))


class Wire:
    """The only wire between this machine and one in a network namespace: `near` is the address here, `far` there."""

    def __init__(self, name: str, network: str) -> None:
        self.before = ("ip", "netns", "exec", name)
        self.near, self.far = f"{network}.1", f"{network}.2"
        self._end = f"{name}a"

    async def cut(self, seconds: float) -> None:
        """Let nothing through for so long: packets vanish, nobody is told."""
        await asyncio.to_thread(command, "ip", "link", "set", self._end, "down")
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(command, "ip", "link", "set", self._end, "up")


@contextmanager
def wired() -> Iterator[Wire]:
    """A network namespace at the end of a wire."""
    name = f"spot{secrets.token_hex(3)}"
    wire = Wire(name, f"10.213.{secrets.randbelow(256)}")
    command("ip", "netns", "add", name)
    try:
        command("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        command("ip", "addr", "add", f"{wire.near}/30", "dev", f"{name}a")
        command("ip", "link", "set", f"{name}a", "up")
        command(*wire.before, "ip", "addr", "add", f"{wire.far}/30", "dev", f"{name}b")
        command(*wire.before, "ip", "link", "set", f"{name}b", "up")
        command(*wire.before, "ip", "link", "set", "lo", "up")
        yield wire
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Steps:
    """The clock of processes that run with `environment`: the machine's, and so much more."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self._set(0)

    async def step(self, by: float, seconds: float) -> None:
        """Step by so many seconds, and back after so many of the machine's."""
        self._set(by)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._set(0)

    def _set(self, by: float) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{by:+}\n")
        fresh.replace(self._file)


def faketime() -> Path | None:
    """Debian's libfaketime, where it is installed."""
    return next(LIBRARIES.glob(f"*/{FAKETIME}"), None)


def has_netns() -> bool:
    """Whether there is a command for network namespaces."""
    return shutil.which("ip") is not None
