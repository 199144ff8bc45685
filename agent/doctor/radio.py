"""`spot doctor --radio`: two machines side by side, each shows what it hears of the other.

What is sent looks like an agent's carousel and takes the same way, but can be taken for nobody: the EBID has bit 255
set, which no X25519 key has, so every agent refuses to make an encounter of it (docs/protocol.md, 5.3). That bit is
also how the checks of several machines know each other among the agents that they hear.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from agent.doctor.findings import Finding, Verdict
from ble.assembly import Assembler
from ble.frame import EBID_SIZE, Block, key_id
from ble.radio import RadioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ble.radio import Radio, Sighting
    from protocol.randomness import Random

NEVER_A_KEY = 0x80  # in an EBID's last byte
SENDERS = 256  # of which account is kept; more are not looked at, as strangers can make up any number
READINGS = 512  # kept for each sender
WHOLE_SLICES = 3  # of the four, rebuild an EBID
WEAK = -90  # dBm; near the least that a radio hears
SLOW = 30.0  # seconds for a whole EBID; at a mean rate an encounter of minutes needs several
RETRY = 1.0  # seconds
DRAW = 0.5  # seconds between two pictures


@dataclass(slots=True)
class Sender:
    """One key id, as it is heard. Times: seconds since 1970."""

    first: float
    block: Block | None = None
    last: float = 0.0
    frames: int = 0
    rssi: list[int] = field(default_factory=list)
    wholes: list[float] = field(default_factory=list)  # seconds that each whole EBID took
    _began: float = 0.0
    _slices: set[int] = field(default_factory=set)

    def hear(self, sighting: Sighting) -> None:
        """Take one frame in. From the third different one on the EBID is whole, and counting begins anew."""
        self.frames += 1
        self.last = sighting.at
        self.rssi = [*self.rssi[-READINGS + 1 :], sighting.rssi]
        if not self._slices:
            self._began = sighting.at
        self._slices.add(sighting.frame.index)
        if len(self._slices) == WHOLE_SLICES:
            self.wholes = [*self.wholes[-READINGS + 1 :], sighting.at - self._began]
            self._slices.clear()

    @property
    def is_check(self) -> bool:
        """Whether this is another machine's check, and not an agent."""
        return self.block is not None and bool(self.block.ebid[-1] & NEVER_A_KEY)

    @property
    def rate(self) -> float:
        """Frames a second, since the first."""
        return (self.frames - 1) / (self.last - self.first) if self.last > self.first else 0.0


class RadioCheck:
    """Sends a block of its own, and keeps account of what is heard."""

    def __init__(self, radio: Radio, random: Random, now: Callable[[], float]) -> None:
        """random: a cryptographic source; the radio stays the caller's to close."""
        ebid = bytearray(random(EBID_SIZE))
        ebid[-1] |= NEVER_A_KEY
        self._radio = radio
        self._now = now
        self._block = Block(bytes(ebid), radio.tx_power).encode()
        self._assembler = Assembler()
        self._began = now()
        self._ended: float | None = None
        self.senders: dict[int, Sender] = {}
        self.own_heard = 0
        self.deaf = ""

    @property
    def tag(self) -> str:
        """By which a person knows this machine on the other's screen."""
        return _tag(key_id(self._block))

    async def run(self, seconds: float, draw: Callable[[], None] = lambda: None) -> None:
        """Be on air for so long, or until cancelled. Raises RadioError where the radio cannot begin."""
        await self._radio.advertise(self._block)
        self._began = self._now()
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                while True:
                    draw()
                    await asyncio.sleep(DRAW)
        except TimeoutError:
            pass
        except asyncio.CancelledError:  # Ctrl-C, after which there is still a summary to be shown
            if task := asyncio.current_task():
                task.uncancel()
        finally:
            self._ended = self._now()
            with contextlib.suppress(RadioError):
                await self._radio.advertise(None)

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._radio.sightings()) as sightings:
                    async for sighting in sightings:
                        self.deaf = ""
                        self.hear(sighting)
            except RadioError as error:
                self.deaf = str(error)
            await asyncio.sleep(RETRY)

    def hear(self, sighting: Sighting) -> None:
        """Take one frame in."""
        name = sighting.frame.key_id
        if name == key_id(self._block):
            self.own_heard += 1
            return
        block = self._assembler.add(sighting.frame, sighting.at)
        if name not in self.senders:
            if len(self.senders) >= SENDERS:
                return
            self.senders[name] = Sender(sighting.at)
        sender = self.senders[name]
        sender.block = sender.block or block
        sender.hear(sighting)

    # --- what came of it ---

    @property
    def seconds(self) -> float:
        """How long it has been on air."""
        return (self._now() if self._ended is None else self._ended) - self._began

    def facts(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "tag": self.tag,
            "seconds": round(self.seconds, 1),
            "dropped": self._radio.dropped,
            "heard": [_facts(name, one) for name, one in self._told() if one.is_check],
            "agents": sum(one.block is not None and not one.is_check for one in self.senders.values()),
            "incomplete": sum(one.block is None for one in self.senders.values()),
        }

    def _told(self) -> list[tuple[int, Sender]]:
        """The strongest first: that is the machine beside this one."""
        return sorted(self.senders.items(), key=lambda item: -statistics.fmean(item[1].rssi))

    def table(self) -> Table:
        """What a person looks at while it runs."""
        facts = self.facts()
        table = Table(
            title=f"This machine is {facts['tag']}, on air for {facts['seconds']:.0f} s",
            title_justify="left",
            title_style="bold",
            caption=f"Beside them: {facts['agents']} agents; {facts['incomplete']} senders not complete yet",
            caption_justify="left",
            box=None,
            header_style="dim",
            padding=(0, 2, 0, 0),
        )
        for column in ("Machine", "Frames", "A second", "RSSI, dBm", "From to", "Whole EBIDs", "Each took, s"):
            table.add_column(column, justify="left" if column == "Machine" else "right")
        for one in facts["heard"]:
            rssi, whole = one["rssi"], one["whole_seconds"]
            took = f"{whole['median']:.1f}, up to {whole['max']:.1f}" if whole else "not yet"
            table.add_row(
                one["tag"],
                str(one["frames"]),
                f"{one['rate']:.2f}",
                f"{rssi['median']:.0f}",
                f"{rssi['min']} to {rssi['max']}",
                str(one["wholes"]),
                took,
            )
        return table

    def findings(self) -> list[Finding]:
        """The verdict."""
        trouble = self._radio.trouble
        if trouble is not None:
            sent = Finding("sending", Verdict.FAULT, "fails at the end of the check", str(trouble))
        else:
            sent = Finding("sending", Verdict.OK, f"on air as {self.tag} for {self.seconds:.0f} s")
        return [sent, self._hearing()]

    def _hearing(self) -> Finding:
        if self.deaf:
            return Finding("hearing", Verdict.FAULT, "fails at the end of the check", self.deaf)
        heard = [one for _, one in self._told() if one.is_check]
        if not heard:
            near = sum(one.block is not None for one in self.senders.values())
            text = "no other machine's check" + (f", though {near} agents" if near else "")
            remedy = "run it on both machines at once, a metre apart, with the same service_uuid, for a minute or more"
            return Finding("hearing", Verdict.FAULT, text, remedy)
        best = heard[0]
        rssi = statistics.median(best.rssi)
        whole = statistics.median(best.wholes) if best.wholes else None
        took = "" if whole is None else f", a whole EBID in {whole:.1f} s"
        text = f"{len(heard)} other, the nearest at {rssi:.0f} dBm, {best.rate:.2f} frames a second{took}"
        if whole is None or whole > SLOW:
            return Finding("hearing", Verdict.WARNING, text, "check again for longer, nearer, or with another adapter")
        if rssi < WEAK:
            return Finding("hearing", Verdict.WARNING, text, "bring them nearer, or mend the antenna")
        return Finding("hearing", Verdict.OK, text)


def _tag(name: int) -> str:
    return f"{name & 0xFFFF:04x}"


def _facts(name: int, one: Sender) -> dict[str, Any]:
    whole = None
    if one.wholes:
        whole = {"median": round(statistics.median(one.wholes), 2), "max": round(max(one.wholes), 2)}
    return {
        "tag": _tag(name),
        "frames": one.frames,
        "rate": round(one.rate, 2),
        "rssi": {"median": statistics.median(one.rssi), "min": min(one.rssi), "max": max(one.rssi)},
        "wholes": len(one.wholes),
        "whole_seconds": whole,
        "tx_power": one.block.tx_power if one.block else None,
    }
