"""`python -m tests.ble.check_wheels`: compare ble/windows.py, ble/macos.py and their fakes with the real packages.

The packages cannot be installed elsewhere than on Windows and macOS, but downloaded and read: winrt brings type stubs,
against which mypy checks the module and this program the fake; PyObjC brings a table of the names it bridges. What
is not in that table (startAdvertising:, stopAdvertising, setDelegate: and state of a CBPeripheralManager) was compared
by hand with what objc2-core-bluetooth 0.3.2 generates from Apple's headers.

Last run on 2026-11-22, nothing found, against winrt-runtime 3.2.1 and 4.1.0, the winrt-Windows.Devices.* of 3.2.1 and
10.0.28000.2705, PyObjC 10.3.2 and 13.0.
"""

from __future__ import annotations

import ast
import enum
import inspect
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ble import fake_corebluetooth, fake_winrt

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
WINDOWS = ["Foundation", "Foundation.Collections", "Storage.Streams"]
WINDOWS += ["Devices.Bluetooth", "Devices.Bluetooth.Advertisement", "Devices.Radios"]
WINRT = ["winrt-runtime", *(f"winrt-Windows.{name}" for name in WINDOWS)]
PYOBJC = ["pyobjc-core", "pyobjc-framework-CoreBluetooth", "pyobjc-framework-libdispatch"]
# What a fake has for its tests' sake.
OWN = {"Windows", "WindowsError"}
OWN_MEMBERS = {"starts", "aired", "reach"}
SELECTORS = ["initWithDelegate:queue:", "isAdvertising", "CBPeripheralManagerDelegate", "CBUUID"]
SELECTORS += ["peripheralManagerDidUpdateState:", "peripheralManagerDidStartAdvertising:error:"]


def main() -> int:
    """Print what differs; 1 where anything does."""
    found = []
    for version in ("<4", ""):
        found += with_wheels(WINRT, version, ["win_amd64"], check_winrt)
    for version in ("<11", ""):
        found += with_wheels(PYOBJC, version, ["macosx_11_0_universal2", "macosx_10_13_universal2"], check_pyobjc)
    print("\n".join(found) or "nothing found")
    return int(bool(found))


def with_wheels(names: list[str], version: str, platforms: list[str], check: Callable[[Path], list[str]]) -> list[str]:
    """What a check finds in the newest packages below a version, unpacked into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version=3.12", f"--dest={folder}", *(f"--platform={one}" for one in platforms)]
        subprocess.run([*command, *(name + version for name in names)], check=True)
        for wheel in Path(folder).glob("*.whl"):
            print("with", wheel.name)
            zipfile.ZipFile(wheel).extractall(folder)
        return check(Path(folder))


def check_winrt(folder: Path) -> list[str]:
    """Compare with the stubs in this folder."""
    found = mypy(folder)
    real = stubs(folder)
    for name, kind in inspect.getmembers(fake_winrt, inspect.isclass):
        if kind.__module__ != fake_winrt.__name__ or name in OWN:
            continue
        if issubclass(kind, enum.IntEnum):
            wrong = {one.name for one in kind if real.get(name, {}).get(one.name) != one.value}
        else:
            wrong = {member for member, what in members(kind).items() if real.get(name, {}).get(member) != what}
        found += [f"winrt has no such {name}.{one}" for one in sorted(wrong)]
    return found


def mypy(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "mypy", "--platform=win32", "--python-version=3.12", "--follow-imports=silent"]
    command += ["--cache-dir", str(folder / "cache"), "-m", "ble.windows"]
    environment = os.environ | {"MYPYPATH": str(folder)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    # The stubs themselves have errors, which are not ours.
    return [line for line in run.stdout.splitlines() if line.startswith(f"ble{os.sep}")]


def stubs(folder: Path) -> dict[str, dict[str, object]]:
    """The members of every class: the value in an enumeration, else "property" or the number of arguments."""
    classes: dict[str, dict[str, object]] = {}
    paths = [*folder.rglob("*.pyi"), *folder.rglob("__init__.py")]
    for path in (one for one in paths if "devices" in str(one.relative_to(folder))):
        for one in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(one, ast.ClassDef):
                classes.setdefault(one.name.removesuffix("_Static"), {}).update(described(one))
    return classes


def members(kind: type) -> dict[str, object]:
    """The same of a class of the fake, attributes it gives itself being properties."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    given = [
        one.attr
        for one in ast.walk(tree)
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and not one.attr.startswith("_")
    ]
    every = dict.fromkeys(given, "property") | described(tree)
    return {name: what for name, what in every.items() if name not in OWN_MEMBERS and not name.startswith("_")}


def described(tree: ast.ClassDef) -> dict[str, object]:
    found: dict[str, object] = {}
    for one in tree.body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and isinstance(one.value, ast.Constant):
            found[one.targets[0].id] = one.value.value
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            is_property = any("property" in ast.unparse(decorator) for decorator in one.decorator_list)
            arguments = len(one.args.posonlyargs) + len(one.args.args) - 1
            if not any(ast.unparse(decorator).endswith(".setter") for decorator in one.decorator_list):
                found[one.name] = "property" if is_property else arguments
    return found


def check_pyobjc(folder: Path) -> list[str]:
    """Compare with the tables in this folder."""
    table = (folder / "CoreBluetooth" / "_metadata.py").read_text("utf-8")
    bridged, core, queues = (everything(folder / name) for name in ("CoreBluetooth", "objc", "dispatch"))
    wanted = [(f"${name}@{value}$", table) for name, value in fake_corebluetooth.CONSTANTS.items()]
    wanted += [(f"${name}$", table) for name in fake_corebluetooth.KEYS]
    wanted += [(selector, bridged) for selector in SELECTORS]
    wanted += [("autorelease_pool", core), ("protocolNamed", core)]
    wanted += [("dispatch_queue_create", queues), ("DISPATCH_QUEUE_SERIAL", queues)]
    return [f"PyObjC has no {name}" for name, text in wanted if name not in text]


def everything(package: Path) -> str:
    """All that is in a package's modules, those compiled included."""
    paths = (path for path in package.rglob("*") if path.suffix in (".py", ".so"))
    return "".join(path.read_bytes().decode("latin-1") for path in paths)


if __name__ == "__main__":
    sys.exit(main())
