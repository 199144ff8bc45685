"""Command line of scripts/ble-vm: run a command in a guest with a Bluetooth adapter, or in two at once."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO

from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant
from scripts.ble_vm.guest import Guest, Job
from scripts.ble_vm.image import VmError

_EPILOG = """\
The guest sees this machine's files at the same paths, read-only; what it writes is gone afterwards. The command runs
as root in the current folder; 10.0.2.2 is this machine's 127.0.0.1. BLE_VM_GUEST is the guest's name: a, or b.
The kernel is kept in ~/.cache/spot-ble-vm, or BLE_VM_CACHE; BLE_VM_ACCEL=tcg does without KVM.
With --two, each line of output begins with that name, and the exit code is the first that is not 0.
"""
_POLL = 0.1  # seconds


def main() -> int:
    """Run the command line and return the exit code: the command's, or 70 if the guest failed."""
    options = _parser().parse_args()
    if not options.command:
        _parser().error("say which command to run, after --")
    try:
        return asyncio.run(_run(options))
    except VmError as error:
        print(f"ble-vm: {error}", file=sys.stderr)
        return 70
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/ble-vm",
        description="Run a command in a virtual machine with BlueZ and a simulated Bluetooth adapter.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--two", action="store_true", help="in two machines, which hear each other")
    parser.add_argument("--distance", type=float, default=1.0, metavar="METRES", help="between the two")
    parser.add_argument("--loss", type=float, default=0.0, metavar="P", help="probability that a packet is lost")
    parser.add_argument("--seed", type=int, default=0, help="of what is random on the air")
    parser.add_argument("--legacy", action="store_true", help="Bluetooth 4.2 adapters: one advertisement at a time")
    parser.add_argument("--trace", type=Path, metavar="FOLDER", help="keep there what was on the air and the wires")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="kill the command then")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="and its arguments")
    return parser


async def _run(options: argparse.Namespace) -> int:
    # Ended from outside, it still ends the guests.
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    command = options.command[1:] if options.command[0] == "--" else options.command
    if options.trace:
        options.trace.mkdir(parents=True, exist_ok=True)
    variant = Variant.LEGACY if options.legacy else Variant.EXTENDED
    async with AsyncExitStack() as stack:
        air = Air(distance=options.distance, loss=options.loss, seed=options.seed, trace_dir=options.trace)
        await stack.enter_async_context(air)
        guests = [
            await stack.enter_async_context(Guest(name, air, variant=variant, env={"BLE_VM_GUEST": name}))
            for name in ("ab" if options.two else "a")
        ]
        jobs = [await guest.start(command) for guest in guests]
        names = [f"{guest.name}: ".encode() if options.two else b"" for guest in guests]
        codes = await asyncio.gather(
            *(_follow(job, name, options.timeout) for job, name in zip(jobs, names, strict=True))
        )
    return next((code for code in codes if code), 0)


async def _follow(job: Job, prefix: bytes, seconds: float) -> int:
    """Pass on what a command writes while it runs, and return its exit code; 124 if it runs for longer."""
    seen = {"out": 0, "err": 0}
    streams: dict[str, BinaryIO] = {"out": sys.stdout.buffer, "err": sys.stderr.buffer}
    deadline = time.monotonic() + seconds
    while True:
        running = job.running  # asked first: what it wrote before it ended must still be passed on
        for name, stream in streams.items():
            new = job.output(name, seen[name])
            if prefix and running:
                new = new[: new.rfind(b"\n") + 1]  # whole lines, as two guests write in turn
            seen[name] += len(new)
            stream.write(b"".join(prefix + line for line in new.splitlines(keepends=True)) if prefix else new)
            stream.flush()
        if not running:
            return (await job.wait(_POLL)).code
        if time.monotonic() > deadline:
            print(f"ble-vm: the command ran for more than {seconds:g} s", file=sys.stderr)
            return 124
        await asyncio.sleep(_POLL)


if __name__ == "__main__":
    sys.exit(main())
