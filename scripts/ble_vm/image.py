"""What a guest boots from: the host's programs, Debian's kernel, and an initramfs made of both.

Nothing is installed: the kernel package is downloaded once, unpacked into a cache folder, and kept.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HERE = Path(__file__).resolve().parent
# Debian keeps some of these where a user's PATH does not look.
_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/libexec/bluetooth"])
_PROGRAMS = {  # program: the package that brings it
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "bluetoothd": "bluez",
    "btattach": "bluez",
    "dbus-daemon": "dbus",
    "dbus-send": "dbus",
}
# What the guest loads; what these depend on is read from the modules themselves. The ciphers are named because
# they are asked for by name only when bluetooth first needs one, and a guest has no modprobe.
_MODULES = (
    *("virtio_pci", "virtio-rng", "virtio_console", "virtio_net", "9pnet_virtio", "9p", "overlay"),
    *("sha256-ssse3", "sha256_generic", "sha512-ssse3", "sha512_generic", "sha3_generic", "hmac", "ctr"),
    *("jitterentropy_rng", "drbg", "ansi_cprng", "ecb", "cmac", "aes_generic", "ecdh_generic"),
    *("af_alg", "algif_hash", "algif_skcipher", "uhid", "bluetooth", "hci_uart"),
)
_KVM_PROBE_SECONDS = 5.0


class VmError(Exception):
    """A guest cannot be started, or did not do what it was asked to. The text says what to do, or what it said."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel ready to boot: the image, and the modules in the order in which they load."""

    image: Path
    modules: tuple[Path, ...]


def cache_folder() -> Path:
    """Where the kernel is kept between runs: BLE_VM_CACHE, or a folder of the user's cache."""
    named = os.environ.get("BLE_VM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spot-ble-vm"


def program(name: str) -> str:
    """Return the path of a program of the host. Raises VmError, naming the package that is missing."""
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise VmError(f"{name} is missing: apt-get install {_PROGRAMS.get(name, name)}")
    return found


def check_host() -> None:
    """Raise VmError with the one apt-get line that is needed, if any program is missing."""
    missing = {package for name, package in _PROGRAMS.items() if not shutil.which(name, path=_SEARCH)}
    if "busybox-static" not in missing and b"/ld-linux" in Path(program("busybox")).read_bytes()[:4096]:
        missing.add("busybox-static")  # the other busybox needs libraries that an initramfs does not have
    if missing:
        raise VmError(f"programs are missing for the virtual machines: apt-get install {' '.join(sorted(missing))}")


def kernel() -> Kernel:
    """Return the kernel in the cache, fetching Debian's current one if there is none. Raises VmError."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        kept = sorted(folder.glob("linux-image-*/vmlinuz"), key=lambda path: path.stat().st_mtime)
        home = kept[-1].parent if kept else _fetch(folder)
    order = (home / "order").read_text().split()
    return Kernel(home / "vmlinuz", tuple(home / name for name in order))


def initramfs(kernel: Kernel, into: Path) -> None:
    """Write an initramfs (cpio, uncompressed: it boots sooner) with busybox, the modules and the first script."""
    entries: list[tuple[str, int, bytes]] = [
        (name, 0o040755, b"") for name in ("bin", "modules", "dev", "proc", "sys", "host", "top", "root")
    ]
    entries.append(("bin/busybox", 0o100755, Path(program("busybox")).read_bytes()))
    entries.append(("init", 0o100755, (_HERE / "init.sh").read_bytes()))
    entries += [
        # Numbered, since the shell lists a folder by name and they must load in this order.
        (f"modules/{number:03}-{path.name}", 0o100644, path.read_bytes())
        for number, path in enumerate(kernel.modules)
    ]
    into.write_bytes(_cpio(entries))


def accelerator(kernel: Kernel) -> str:
    """Return "kvm" if this machine can run the kernel with it, else "tcg"; BLE_VM_ACCEL overrules.

    A /dev/kvm that opens may still crash QEMU or hang the guest, so it is tried, once per boot of the host.
    """
    named = os.environ.get("BLE_VM_ACCEL")
    if named:
        return named
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache_folder() / f"kvm-{boot}"
    with _locked(cache_folder() / "lock"):
        if not answer.exists():
            for old in cache_folder().glob("kvm-*"):
                old.unlink()
            answer.write_text("kvm" if _kvm_works(kernel) else "tcg")
    return answer.read_text()


def _kvm_works(kernel: Kernel) -> bool:
    """Whether a kernel without anything to run reaches its panic, and with it the end of QEMU, in time."""
    command = [program("qemu-system-x86_64"), "-accel", "kvm", "-cpu", "max", "-m", "256", "-nodefaults"]
    command += ["-no-user-config", "-display", "none", "-no-reboot"]
    command += ["-kernel", str(kernel.image), "-append", "panic=-1"]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_KVM_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes (tests run in several) from filling the same cache at once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path) -> Path:
    """Download the package that linux-image-amd64 stands for, and keep its kernel and the modules needed."""
    name = _package_name()
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as work:
        _call(["apt-get", "download", name], Path(work))
        archive = next(Path(work).glob("*.deb"))
        _call(["dpkg", "-x", str(archive), "unpacked"], Path(work))
        unpacked = Path(work, "unpacked")
        ready = Path(work, "ready")
        ready.mkdir()
        shutil.copy(next(unpacked.glob("boot/vmlinuz-*")), ready / "vmlinuz")
        order = _load_order(unpacked)
        for module in order:
            (ready / _module_name(module)).write_bytes(_module_bytes(module))
        (ready / "order").write_text("\n".join(_module_name(module) for module in order))
        ready.rename(folder / name)
    return folder / name


def _package_name() -> str:
    answer = _call(["apt-cache", "depends", "linux-image-amd64"], Path("/"))
    found = re.search(r"Depends: (linux-image-[0-9]\S+)", answer)
    if found is None:
        raise VmError("apt does not know a kernel package: apt-get update, on Debian for amd64")
    return found[1]


def _call(command: list[str], cwd: Path) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise VmError(f"fetching a kernel needs Debian's apt and its network: {error}") from error
    if done.returncode:
        raise VmError(f"{' '.join(command)} failed (apt-get update may help): {done.stderr.strip()}")
    return done.stdout


def _load_order(unpacked: Path) -> list[Path]:
    """Return the modules wanted and what they depend on, each after its own dependencies."""
    # Names are compared with dashes as underscores, as the kernel does.
    found = {
        path.name.split(".ko")[0].replace("-", "_"): path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko*")
    }
    order: list[Path] = []

    def add(name: str) -> None:
        path = found.get(name.replace("-", "_"))
        if path is None or path in order:  # not a module of this kernel: built in, or gone
            return
        for needed in _dependencies(_module_bytes(path)):
            add(needed)
        order.append(path)

    for name in _MODULES:
        add(name)
    return order


def _dependencies(module: bytes) -> Iterable[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return found[1].decode().split(",") if found and found[1] else ()


def _module_name(path: Path) -> str:
    return path.name.removesuffix(".xz")


def _module_bytes(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Pack (path, mode, content) as the "newc" archive that the kernel unpacks (Documentation/driver-api)."""
    packed = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        packed += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        packed += bytes(-len(packed) % 4)
        packed += content
        packed += bytes(-len(packed) % 4)
    return bytes(packed)
