"""A guest as a test sees it: booted with BlueZ on one adapter, running commands.

    async with Air(distance=1.0, trace_dir=folder) as air, Guest("a", air) as a, Guest("b", air) as b:
        service = await a.start(["spot", "run"])
        result = await b.run(["spot", "status"], within=60)

The guest sees the host's files at the same paths, read-only; what it writes stays in its memory, except in its
`share`. Host files written after the boot may be missed: hand those over in the share too. The host's 127.0.0.1 is
10.0.2.2 for it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

from scripts.ble_vm.controller import Variant
from scripts.ble_vm.image import VmError
from scripts.ble_vm.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from scripts.ble_vm.air import Air

SHARE_IN_GUEST: Final = Path("/run/share")
HOST_IN_GUEST: Final = "10.0.2.2"
_BOOT_SECONDS: Final = 180.0
_POLL: Final = 0.1  # seconds
_TAIL: Final = 2000  # characters of output that an error shows


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. code: as a shell has it, 128 + signal if killed; seconds: how long it ran."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class Job:
    """A command running in a guest."""

    def __init__(self, guest: Guest, number: int, argv: Sequence[str]) -> None:
        self._guest = guest
        self._number = number
        self._text = shlex.join(argv)
        self._since = time.monotonic()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._seconds = 0.0

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self.output("out").decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self.output("err").decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._code.done()

    def output(self, stream: str, since: int = 0) -> bytes:
        """Return what was written so far to the stream "out" or "err", from this byte on."""
        path = self._guest.share / f"{self._number}.{stream}"
        if not path.exists():
            return b""
        with path.open("rb") as file:
            file.seek(since)
            return file.read()

    async def wait(self, within: float) -> Result:
        """Return its result when it ends by itself. Raises VmError after so many seconds, or if the guest dies."""
        try:
            async with asyncio.timeout(within):
                code = await asyncio.shield(self._code)
        except TimeoutError:
            raise VmError(self._complaint(f"took more than {within} s")) from None
        return Result(code, self.stdout, self.stderr, self._seconds)

    async def printed(self, pattern: str, within: float) -> re.Match[str]:
        """Return the first match in what it writes, as soon as there is one.

        Raises VmError if it ends without one, or after so many seconds.
        """
        deadline = time.monotonic() + within
        while True:
            running = self.running  # asked first: what it wrote before it ended must still be seen
            found = re.search(pattern, self.stdout) or re.search(pattern, self.stderr)
            if found is not None:
                return found
            if not running:
                raise VmError(self._complaint(f"ended without {pattern!r}"))
            if time.monotonic() > deadline:
                raise VmError(self._complaint(f"did not print {pattern!r} within {within} s"))
            await asyncio.sleep(_POLL)

    async def stop(self, signal: str = "TERM", within: float = 20.0) -> Result:
        """Send the signal, to its children too, and wait for its end; after so many seconds, kill it and raise."""
        self.signal(signal)
        try:
            return await self.wait(within)
        except VmError:
            self.signal("KILL")
            raise

    def signal(self, name: str) -> None:
        """Send it a signal, and its children too; name: such as TERM."""
        if self.running:
            self._guest.tell(f"kill {self._number} {name}")

    def ended(self, code: int | VmError) -> None:
        """Take note of its end, or of the guest's."""
        self._seconds = time.monotonic() - self._since
        if self._code.done():
            return
        if isinstance(code, int):
            self._code.set_result(code)
        else:
            self._code.set_exception(code)
            self._code.exception()  # taken note of: nobody has to wait for it

    def _complaint(self, what: str) -> str:
        text = f"in guest {self._guest.name}, `{self._text}` {what}"
        for name, output in (("stdout", self.stdout), ("stderr", self.stderr)):
            if output:
                text += f"\n--- {name}\n{output[-_TAIL:]}"
        return text


class Guest:
    """A virtual machine with one adapter on the air.

    variant, tx_power (dBm), sets: what its controller can do; bluetoothd: options for BlueZ's daemon;
    env: environment of all its commands. Entered, it boots in the background; the first command waits for it.
    """

    def __init__(
        self,
        name: str,
        air: Air,
        *,
        variant: Variant = Variant.EXTENDED,
        tx_power: int = 0,
        sets: int = 8,
        bluetoothd: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._air = air
        self._controller = (variant, tx_power, sets)
        self._bluetoothd = bluetoothd
        self._env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin:/sbin"]),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._jobs: list[Job] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix=f"ble-vm-{self.name}-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self.share = folder / "share"
            self.share.mkdir()
            shutil.copy(Path(__file__).with_name("guest.sh"), self.share)
            (self.share / "name").write_text(self.name)
            (self.share / "bluetoothd.options").write_text(" ".join(self._bluetoothd))
            variant, tx_power, sets = self._controller
            hci = await self._air.serve(self.name, variant=variant, tx_power=tx_power, sets=sets)
            self._agent = _Agent(self)
            server = await asyncio.get_running_loop().create_unix_server(lambda: self._agent, folder / "agent")
            stack.callback(self._agent.close)
            stack.callback(server.close)
            console = (self._air.trace_dir or folder) / f"{self.name}.console"
            self._machine = Machine(folder, self.share, console, hci, folder / "agent")
            stack.push_async_callback(self._machine.stop)
            await self._machine.start()
            watch = asyncio.create_task(self._watch())
            stack.callback(watch.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone(VmError(f"guest {self.name} was stopped"))
        await self._stack.aclose()

    async def ready(self, within: float = _BOOT_SECONDS) -> None:
        """Wait until BlueZ serves the adapter. Raises VmError with what the guest said if it does not."""
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._agent.up)
        except TimeoutError:
            text = f"guest {self.name} was not ready within {within} s\n{self._machine.said()}"
            raise VmError(text) from None

    async def run(
        self,
        argv: Sequence[str],
        *,
        within: float = 120.0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        """Run a command as root and return how it ended, whatever its exit code.

        within: seconds; cwd: the host's own if None. Raises VmError if it takes longer or the guest dies; it is
        killed then.
        """
        job = await self.start(argv, env=env, cwd=cwd)
        try:
            return await job.wait(within)
        finally:
            job.signal("KILL")  # if it still runs

    async def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Job:
        """Start a command as root and return it while it runs. Raises VmError if the guest did not boot."""
        await self.ready()
        job = Job(self, len(self._jobs) + 1, argv)
        self._jobs.append(job)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in {**self._env, **(env or {})}.items()]
        lines += [f"cd {shlex.quote(str(cwd or Path.cwd()))} || exit 126", f"exec {shlex.join(argv)}"]
        (self.share / f"{len(self._jobs)}.sh").write_text("\n".join(lines) + "\n")
        self.tell(f"run {len(self._jobs)}")
        return job

    def tell(self, line: str) -> None:
        """Send the guest's second script a line, if it is still there."""
        self._agent.tell(line)

    def told(self, words: list[str]) -> None:
        """Take a line from the guest's second script."""
        match words:
            case ["hello"]:
                self.tell(f"time {time.time():.3f}")
            case ["up"] if not self._agent.up.done():
                self._agent.up.set_result(None)
            case ["done", number, code]:
                self._jobs[int(number) - 1].ended(int(code))

    async def _watch(self) -> None:
        await self._machine.ended()
        self._gone(VmError(f"guest {self.name} ended by itself\n{self._machine.said()}"))

    def _gone(self, error: VmError) -> None:
        if not self._agent.up.done():
            self._agent.up.set_exception(error)
            self._agent.up.exception()  # taken note of: nobody has to wait for it
        for job in self._jobs:
            job.ended(error)


class _Agent(asyncio.Protocol):
    """The line to the guest's second script."""

    def __init__(self, guest: Guest) -> None:
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guest = guest
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._guest.told(line.decode(errors="replace").split())

    def tell(self, line: str) -> None:
        """Send a line."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line.encode() + b"\n")

    def close(self) -> None:
        """Hang up, on which the guest powers itself off."""
        if self._transport is not None:
            self._transport.close()
