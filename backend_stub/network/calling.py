"""Asking other parts: any of the processes that serve alike, and another where one is away."""

from __future__ import annotations

import io
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from backend_stub.network import problems
from protocol import messages
from protocol.errors import TooMany, Unreachable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

CALL_SECONDS = 60  # for another part to answer
CONNECT_SECONDS = 5
CONNECTIONS = 100  # at once to each of the other parts: one that is slow must not keep the others waiting


class Away(Unreachable):
    """Nobody took the request, or its connection broke before the answer."""


def session(context: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A session for asking other parts: keeps no cookies, follows nothing. context: whom to trust, who one is."""
    # A connection for each request, of which a pool of submissions is one: where processes share a port, the kernel
    # deals out connections, and all of them would go to the process that got the first ones.
    verified = context if context is not None else True
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS, ssl=verified, force_close=True)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def call(
    asking: aiohttp.ClientSession,
    method: str,
    url: str,
    limit: int,
    body: bytes | None = None,
    seconds: float = CALL_SECONDS,
) -> bytes:
    """The answer of another part, at most `limit` bytes. Raises what it says, or Unreachable."""
    if asking.closed:  # whoever waited for it is gone
        raise Unreachable("this part is being stopped; ask another one")
    headers = {"Content-Type": messages.MEDIA_TYPE} if body is not None else None
    data = None if body is None else io.BytesIO(body)  # in pieces: a large one at once would hold up the others
    timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
    try:
        async with asking.request(
            method, url, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            said = bytearray()
            async for chunk in response.content.iter_any():
                said += chunk
                if len(said) > limit:
                    raise Unreachable("another part of the backend answers too much; try again later")
            if response.status == HTTPStatus.OK:
                return bytes(said)
            raise problems.error_of(bytes(said), response.content_type, response.headers.get("Retry-After"))
    except TimeoutError:
        raise Unreachable("another part of the backend does not answer in time; try again later") from None
    except (aiohttp.ClientError, OSError):
        raise Away("another part of the backend is away; try again later") from None


class Peers:
    """Processes that serve alike, at one or several URLs, asked in random order.

    What they are asked must be of the same effect when it is asked twice: whoever breaks off may have done it.
    """

    def __init__(self, asking: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._asking = asking
        self._urls = tuple(urls)
        self._resting: dict[str, float] = {}  # until when they asked to be left alone, by this machine's time

    async def call(
        self, method: str, path: str, limit: int, body: bytes | None = None, seconds: float = CALL_SECONDS
    ) -> bytes:
        """The answer of one of them, within so many seconds. Raises what it says, or Unreachable."""
        end = time.monotonic() + seconds
        order = self._awake()
        broken: list[str] = []
        last: Unreachable | None = None
        # A connection that was kept may end just as it is used again: those are asked a second time, on a new one.
        for round_ in (order, broken):
            for index, url in enumerate(round_):
                share = max((end - time.monotonic()) / (len(round_) - index), 1.0)
                try:
                    return await call(self._asking, method, url + path, limit, body, share)
                except Unreachable as error:
                    last = error
                    if error.after:
                        self._resting[url] = time.monotonic() + error.after
                    if isinstance(error, Away) and round_ is order:
                        broken.append(url)
        raise last or Unreachable("there is nobody to ask; mend the URLs in settings.toml")

    def _awake(self) -> list[str]:
        """Those that may be asked now, in random order. Raises TooMany where all asked to be left alone."""
        now = time.monotonic()
        self._resting = {url: until for url, until in self._resting.items() if until > now}
        awake = [url for url in self._urls if url not in self._resting]
        if not awake and self._resting:
            wait = min(self._resting.values()) - now
            raise TooMany("the backend is busy; try again a little later", wait)
        return secrets.SystemRandom().sample(awake, len(awake))
