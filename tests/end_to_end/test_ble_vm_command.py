"""scripts/ble-vm as a person uses it, and a guest that does not boot."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts.ble_vm import image

ROOT = Path(__file__).parents[2]
IN_THE_GUEST = """
echo "$BLE_VM_GUEST $(date +%s)"
cat /sys/class/bluetooth/hci0/uevent >&2
[ -e "$0" ] && touch "$0.new" && cat "$0"
busybox wget -qO- "http://10.0.2.2:$1/"
exit 7
"""


@pytest.fixture(autouse=True)
def programs() -> None:
    try:
        image.check_host()
    except image.VmError as error:
        pytest.fail(str(error))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the host")

    def log_message(self, *_: object) -> None:
        pass


async def test_a_command_runs_inside_with_the_hosts_files_clock_and_loopback(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("seen in the guest\n")
    with HTTPServer(("127.0.0.1", 0), Greeter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        begun = time.time()
        process = await asyncio.create_subprocess_exec(
            *(ROOT / "scripts" / "ble-vm", "--timeout", "30", "--trace", tmp_path / "trace"),
            *("--", "sh", "-c", IN_THE_GUEST, file, str(server.server_port)),
            env={**os.environ, "VIRTUAL_ENV": sys.prefix},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 120)
        server.shutdown()
    assert process.returncode == 7, err
    first, *rest = out.decode().splitlines()
    name, clock = first.split()
    assert name == "a"
    assert begun - 2 < int(clock) < time.time() + 2
    assert rest == ["seen in the guest", "hello from the host"]
    assert b"DEVTYPE=host" in err
    assert names(tmp_path) == ["file", "trace"], "the guest wrote on the host"
    assert names(tmp_path / "trace") == ["a.btsnoop", "a.console", "air.jsonl"]


async def test_a_guest_that_does_not_come_up_says_why() -> None:
    from scripts.ble_vm.air import Air
    from scripts.ble_vm.guest import Guest

    async with Air() as air, Guest("a", air, bluetoothd=["--no-such-option"]) as guest:
        with pytest.raises(image.VmError, match="no-such-option"):
            await guest.run(["true"])


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_SEARCH", "/nowhere")
    with pytest.raises(image.VmError, match=r"apt-get install bluez busybox-static dbus qemu-system-x86$"):
        image.check_host()
