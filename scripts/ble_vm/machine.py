"""One virtual machine: QEMU started, watched and ended, whatever happens to the program that started it."""

from __future__ import annotations

import asyncio
import shutil
import signal
from typing import TYPE_CHECKING

from scripts.ble_vm import image

if TYPE_CHECKING:
    from pathlib import Path

_MEMORY = 1024  # MiB
_STOP_SECONDS = 5.0
_LINES_SHOWN = 40


class Machine:
    """A QEMU process.

    folder: where its initramfs and QEMU's own messages go; share: the folder that the guest can write to;
    console: file for what the guest's kernel and scripts say; hci, agent: sockets that QEMU connects to.
    """

    def __init__(self, folder: Path, share: Path, console: Path, hci: Path, agent: Path) -> None:
        self._folder = folder
        self._share = share
        self._console = console
        self._hci = hci
        self._agent = agent
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start QEMU; the guest boots on its own. Raises VmError."""
        command = await asyncio.to_thread(self._prepare)
        with (self._folder / "qemu.log").open("wb") as log:
            # In a session of its own, a Ctrl-C at the terminal is for the program, which then ends QEMU itself.
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _prepare(self) -> list[str]:
        image.check_host()
        kernel = image.kernel()
        initramfs = self._folder / "initramfs"
        image.initramfs(kernel, initramfs)
        command = [image.program("qemu-system-x86_64"), "-accel", image.accelerator(kernel), "-cpu", "max"]
        command += ["-m", str(_MEMORY), "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-kernel", str(kernel.image), "-initrd", str(initramfs)]
        command += ["-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off"]
        command += ["-rtc", "base=utc"]
        command += ["-chardev", f"file,id=console,path={self._console}"]
        command += ["-device", "isa-serial,chardev=console,index=0"]
        command += ["-chardev", f"socket,id=hci,path={self._hci}", "-device", "isa-serial,chardev=hci,index=1"]
        command += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={self._agent}"]
        command += ["-device", "virtserialport,chardev=agent,name=agent"]
        command += ["-device", "virtio-rng-pci", "-nic", "user,model=virtio-net-pci"]
        command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        command += ["-virtfs", f"local,path={self._share},mount_tag=share,security_model=none"]
        setpriv = shutil.which("setpriv")
        # Should this program be killed outright, the kernel kills QEMU.
        return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command

    async def ended(self) -> None:
        """Wait until QEMU is gone."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """End QEMU, and with it the guest, which has nothing to lose: what it wrote outside the share is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def said(self) -> str:
        """Return the last lines of the guest's console, and what QEMU and BlueZ said, for an error's text."""
        parts = []
        for path in (self._console, self._folder / "qemu.log", self._share / "bluetoothd.log"):
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            if lines:
                parts.append("\n".join([f"--- {path.name}", *lines[-_LINES_SHOWN:]]))
        return "\n".join(parts) or "(the guest said nothing)"
