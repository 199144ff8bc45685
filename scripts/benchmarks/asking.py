"""One submission on a connection of its own, as an agent makes it, but for as little processor time as can be.

aiohttp in the client would cost as much as the backend that is measured.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from protocol import messages
from protocol.errors import Malformed, error_named

if TYPE_CHECKING:
    import ssl

TIMEOUT = 30.0  # seconds for a whole exchange, as in agent.transport
AWAY = 0  # the status of no answer at all


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. record: None while pending; retry_after: seconds, 0 where not said.

    status: of HTTP, that of the error where it is refused, and AWAY where nothing came, or nothing that can be read
    """

    status: int
    record: messages.ContactRecord | None = None
    retry_after: float = 0.0


class Proxy:
    """Where submissions go."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        """tls: for https."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._head = (
            f"POST {parts.path}{messages.SUBMISSION_PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: {messages.MEDIA_TYPE}\r\nAccept: {messages.MEDIA_TYPE}\r\nConnection: close\r\n"
            "Content-Length: "
        ).encode()

    async def submit(self, body: bytes, seconds: float = TIMEOUT) -> Answer:
        """Send an encoded submission, and take what comes; nothing is raised for a proxy that is away."""
        loop = asyncio.get_running_loop()
        exchange = _Exchange(self._head + str(len(body)).encode() + b"\r\n\r\n" + body, loop.create_future())
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(lambda: exchange, self._host, self._port, ssl=self._tls)
                return _read(await exchange.over)
        except (OSError, TimeoutError, Malformed):
            return Answer(AWAY)
        finally:
            exchange.close()


class _Exchange(asyncio.Protocol):
    """Writes the request, and reads until the other side closes."""

    def __init__(self, request: bytes, over: asyncio.Future[bytes]) -> None:
        self.over = over
        self._request = request
        self._data = bytearray()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            if exc is None:
                self.over.set_result(bytes(self._data))
            else:
                self.over.set_exception(ConnectionResetError())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()  # type: ignore[attr-defined]
        if self.over.done() and not self.over.cancelled():
            self.over.exception()  # seen


def _read(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    try:
        status = HTTPStatus(int(lines[0].split(b" ")[1]))
        complete = int(headers.get(b"content-length", b"0")) == len(body)
        retry_after = float(headers.get(b"retry-after", b"0"))
    except (IndexError, ValueError):
        raise Malformed("this is no answer in HTTP") from None
    if not complete:
        raise Malformed("the answer broke off")
    if status != HTTPStatus.OK:
        return Answer(status, retry_after=retry_after)
    said = messages.decode(messages.Answer, messages.unpad(body))
    return Answer(error_named(said.refusal.slug).status if said.refusal else status, said.record)
