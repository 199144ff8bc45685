"""How server and proxy keep to the authority's parameters: its chain, followed from the genesis they were made with.

The link followed last is kept in the part's folder, so that a part that starts while the authority is away answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend_stub.network.calling import Peers
from protocol import chain, hashing, messages, parameters
from protocol.errors import KeyChanged, SpotError, Unreachable
from protocol.parameters import Trusted

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from backend_stub.clock import Clock
    from backend_stub.settings import FollowerSettings
    from protocol.curve import Curve
    from protocol.messages import Parameters
    from protocol.parameters import Keys

log = logging.getLogger(__name__)

FILE = "followed"  # in the part's folder
PARAMETERS_LIMIT = 1 << 20
HEADS_LIMIT = 1024
BEGIN_SECONDS = 15  # for the authority to answer, before a part answers that it did not
RETRY_FIRST, RETRY_LAST = 0.2, 15.0  # real seconds: it is the network that is waited for


@dataclass(frozen=True, slots=True)
class Known:
    """Parameters and the keys in them."""

    parameters: Parameters
    keys: Keys


class Kept(messages.Message, frozen=True, kw_only=True):
    """What a part keeps: the link it followed last, its hash, which tells damage, and the genesis it came from."""

    genesis: str
    hash: bytes
    link: messages.Link


class Follower:
    """The newest parameters whose chain from the genesis was checked."""

    def __init__(
        self, folder: Path, settings: FollowerSettings, asking: aiohttp.ClientSession, curve: Curve, clock: Clock
    ) -> None:
        self._file = folder / FILE
        self._settings = settings
        self._authority = Peers(asking, settings.authority)
        self._curve = curve
        self._clock = clock
        self._trusted: Trusted | None = None
        self._known: Known | None = None
        self._begun = asyncio.Event()
        self._heard_at: float | None = None

    def known(self) -> Known:
        """The parameters. Raises Unreachable before they were fetched, KeyChanged where they have run out."""
        last = self.last()
        parameters.check_validity(last.parameters, self._clock.now())
        return last

    def last(self) -> Known:
        """The last parameters, which may have run out: for what must go on without an authority. Raises Unreachable."""
        if self._known is None:
            raise Unreachable("this part of the backend has not reached the authority yet; try again later")
        return self._known

    def age(self) -> float:
        """Seconds since the authority was last heard of; infinite before."""
        return math.inf if self._heard_at is None else self._clock.now() - self._heard_at

    async def refresh(self) -> None:
        """Follow the chain to its end. Raises SpotError, and keeps to what it has then."""
        data = await self._authority.call("GET", messages.HEADS_PATH, HEADS_LIMIT)
        head = messages.decode(messages.Heads, data).parameters
        trusted, link = self._trusted, None
        while trusted is None or trusted.head.number < head.number:
            number = 0 if trusted is None else trusted.head.number + 1
            path = messages.PARAMETERS_PATH.format(number=number)
            link = messages.decode(messages.Link, await self._authority.call("GET", path, PARAMETERS_LIMIT))
            trusted = parameters.advance(trusted, link) if trusted is not None else self._begin(link)
        if trusted.head != head:
            raise KeyChanged("the authority shows another parameters chain than before; its operator must be asked")
        self._heard_at = self._clock.now()
        if link is not None:
            await self._take(trusted)
            await asyncio.to_thread(self._keep, trusted, link)

    async def _take(self, trusted: Trusted) -> None:
        keys = await asyncio.to_thread(parameters.read_keys, self._curve, trusted.parameters)
        self._trusted, self._known = trusted, Known(trusted.parameters, keys)
        self._begun.set()
        log.info("keeps to the authority's parameters number %d", trusted.head.number)

    def _keep(self, trusted: Trusted, link: messages.Link) -> None:
        kept = Kept(genesis=self._settings.genesis, hash=trusted.head.hash, link=link)
        fresh = self._file.with_suffix(f".{os.getpid()}")  # other processes of this part do the same
        try:
            fresh.write_bytes(messages.encode(kept))
            fresh.replace(self._file)
        except OSError as error:
            log.warning("parameters are not kept for the next start (%s); make room", error.strerror)
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    async def recall(self) -> None:
        """Go on from what was kept, if anything usable was: what comes after it is checked against it."""
        try:
            kept = messages.decode(Kept, self._file.read_bytes())
            if kept.genesis == self._settings.genesis and chain.hash_of(hashing.PARAMETERS, kept.link) == kept.hash:
                body = messages.decode(messages.Parameters, kept.link.body)
                await self._take(Trusted(messages.Head(number=body.number, hash=kept.hash), body))
        except (OSError, SpotError) as error:
            log.debug("the parameters are followed from the genesis on: %s", error)

    def _begin(self, link: messages.Link) -> Trusted:
        trusted = parameters.begin(link)
        if trusted.head.hash.hex() != self._settings.genesis:
            raise KeyChanged(
                "this is not the authority that the backend was founded with; mend `authority` in settings.toml"
            )
        return trusted

    async def begin(self) -> None:
        """Wait for the first parameters if others answer at this part's port meanwhile, but not for ever."""
        if self._settings.share_port:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEGIN_SECONDS):
                    await self._begun.wait()

    async def run(self) -> None:
        """Recall, then refresh for ever; after a failure sooner, then less and less so."""
        await self.recall()
        wait = RETRY_FIRST
        while True:
            try:
                await self.refresh()
            except SpotError as error:
                log.warning("parameters are not refreshed: %s", error.text)
                await asyncio.sleep(wait)
                wait = min(2 * wait, RETRY_LAST)
            else:
                wait = RETRY_FIRST
                await self._clock.sleep(self._settings.refresh)
