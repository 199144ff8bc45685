"""Messages over HTTP: one request, one connection; nothing in it that tells one device from another."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from protocol import messages
from protocol.errors import (
    Malformed,
    NotJoined,
    RadioUnavailable,
    SpotError,
    StorageError,
    Unreachable,
    error_named,
)

if TYPE_CHECKING:
    import aiohttp

TIMEOUT = 30.0  # seconds for a whole exchange
LONG_TIMEOUT = 300.0  # seconds; the authority checks a long report before it answers
MAX_BODY = messages.LINK_LIMIT  # bytes of an answer; nothing larger than a link is ever asked for
MAX_PROBLEM = 16 * 1024  # bytes of an error's explanation

_HEADERS = {"Content-Type": messages.MEDIA_TYPE, "Accept": messages.MEDIA_TYPE}
# aiohttp would name itself and its version, and what it can decompress depends on what else is installed.
_LEFT_OUT = ["User-Agent", "Accept-Encoding"]
_OUR_OWN = (NotJoined, RadioUnavailable, StorageError)  # about this device: nobody else can say it


async def get(base: str, path: str) -> bytes:
    """The body found there. Raises Unreachable, Malformed, or what the other side says."""
    return await _exchange("GET", base + path, None, TIMEOUT)


async def post(base: str, path: str, body: bytes, timeout: float = TIMEOUT) -> bytes:  # noqa: ASYNC109
    """The answer to this body. Raises Unreachable, Malformed, or what the other side says."""
    return await _exchange("POST", base + path, body, timeout)


async def _exchange(method: str, url: str, body: bytes | None, seconds: float) -> bytes:
    import aiohttp  # here, as it takes a third of the start-up of commands that need no network

    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                skip_auto_headers=_LEFT_OUT,
                auto_decompress=False,
            ) as session,
            session.request(method, url, data=body, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise _problem(response.status, await _read(response, MAX_PROBLEM))
            return await _read(response, MAX_BODY)
    except TimeoutError:
        raise Unreachable("the backend did not answer in time; it will be tried again") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
        raise Malformed("this is not a URL; one begins with http:// or https:// and a host") from None
    except (aiohttp.ClientError, OSError):
        raise Unreachable("the backend cannot be reached; check the network, it will be tried again") from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > limit:
            raise Malformed(f"an answer of more than {limit} bytes is not read; the sender is broken or hostile")
    return bytes(data)


def _problem(status: int, body: bytes) -> SpotError:
    """The error that an RFC 9457 body names. Its text is a stranger's, so only printable characters are taken."""
    try:
        problem = json.loads(body)
        slug = str(problem["type"]).removeprefix("urn:spot:")
        text = "".join(character for character in str(problem["detail"])[:300] if character.isprintable())
    except (ValueError, KeyError, TypeError, RecursionError):
        text = ""
    if not text:
        return Unreachable(f"the backend answered with status {status}; it will be tried again")
    if status >= 500:
        return Unreachable(text)
    kind = error_named(slug)
    return SpotError(text) if issubclass(kind, _OUR_OWN) else kind(text)
