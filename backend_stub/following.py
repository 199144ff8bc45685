"""How server and proxy keep to the authority's parameters: its chain, followed from the genesis they were made with."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend_stub.calling import Peers
from protocol import messages, parameters
from protocol.errors import KeyChanged, SpotError, Unreachable

if TYPE_CHECKING:
    import aiohttp

    from backend_stub.clock import Clock
    from backend_stub.settings import FollowerSettings
    from protocol.curve import Curve
    from protocol.messages import Parameters
    from protocol.parameters import Keys, Trusted

log = logging.getLogger(__name__)

PARAMETERS_LIMIT = 1 << 20
HEADS_LIMIT = 1024
BEGIN_SECONDS = 15  # for the authority to answer, before a part answers that it did not
RETRY_FIRST, RETRY_LAST = 0.2, 15.0  # real seconds: it is the network that is waited for


@dataclass(frozen=True, slots=True)
class Known:
    """Parameters and the keys in them."""

    parameters: Parameters
    keys: Keys


class Follower:
    """The newest parameters whose chain from the genesis was checked."""

    def __init__(self, settings: FollowerSettings, asking: aiohttp.ClientSession, curve: Curve, clock: Clock) -> None:
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
        if self._known is None:
            raise Unreachable("this part of the backend has not reached the authority yet; try again later")
        parameters.check_validity(self._known.parameters, self._clock.now())
        return self._known

    def age(self) -> float:
        """Seconds since the authority was last heard of; infinite before."""
        return math.inf if self._heard_at is None else self._clock.now() - self._heard_at

    async def refresh(self) -> None:
        """Follow the chain to its end. Raises SpotError, and keeps to what it has then."""
        data = await self._authority.call("GET", messages.HEADS_PATH, HEADS_LIMIT)
        head = messages.decode(messages.Heads, data).parameters
        trusted = self._trusted
        while trusted is None or trusted.head.number < head.number:
            number = 0 if trusted is None else trusted.head.number + 1
            path = messages.PARAMETERS_PATH.format(number=number)
            link = messages.decode(messages.Link, await self._authority.call("GET", path, PARAMETERS_LIMIT))
            trusted = parameters.advance(trusted, link) if trusted is not None else self._begin(link)
        if trusted.head != head:
            raise KeyChanged("the authority shows another parameters chain than before; its operator must be asked")
        self._heard_at = self._clock.now()
        if trusted is not self._trusted:
            keys = await asyncio.to_thread(parameters.read_keys, self._curve, trusted.parameters)
            self._trusted, self._known = trusted, Known(trusted.parameters, keys)
            self._begun.set()
            log.info("keeps to the authority's parameters number %d", trusted.head.number)

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
        """Refresh for ever; after a failure sooner, then less and less so."""
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
