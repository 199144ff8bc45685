"""Messages over HTTP: one request, one connection; nothing in it that tells one device from another.

Over TLS, each connection is new to the other side as well: no session is taken up again.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from typing import TYPE_CHECKING, TypeAlias

from protocol import messages
from protocol.errors import (
    Busy,
    Malformed,
    Moved,
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
LONG_TIMEOUT = 300.0  # seconds; the authority answers a long report late
MAX_BODY = messages.LINK_LIMIT  # bytes of an answer; nothing larger than a link is ever asked for
LONGEST_WAIT = 3600.0  # seconds that a stranger can ask to be left alone
MAX_PROBLEM = 16 * 1024  # bytes of an error's explanation

Trust: TypeAlias = tuple[bytes, ...] | None
"""The roots (DER) that certificates are verified against."""
SYSTEM: Trust = ()
"""Those that this system trusts."""
UNCHECKED: Trust = None
"""Anybody: for what is verified otherwise."""

_HEADERS = {"Content-Type": messages.MEDIA_TYPE, "Accept": messages.MEDIA_TYPE}
# aiohttp would name itself and its version, and what it can decompress depends on what else is installed.
_LEFT_OUT = ["User-Agent", "Accept-Encoding"]
_OUR_OWN = (NotJoined, Moved, Busy, RadioUnavailable, StorageError)  # about this device: nobody else can say it


async def get(base: str, path: str, trust: Trust = SYSTEM) -> bytes:
    """The body found there. Raises Unreachable, Malformed, or what the other side says."""
    return await _exchange("GET", base + path, trust, None, TIMEOUT)


async def post(
    base: str,
    path: str,
    body: bytes,
    timeout: float = TIMEOUT,  # noqa: ASYNC109
    trust: Trust = SYSTEM,
) -> bytes:
    """The answer to this body. Raises Unreachable, Malformed, or what the other side says."""
    return await _exchange("POST", base + path, trust, body, timeout)


@functools.lru_cache(maxsize=4)
def tls(trust: Trust) -> ssl.SSLContext:
    """TLS 1.3 with this trust. Raises Malformed where a root is no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    if trust is UNCHECKED:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trust:
        try:
            context.load_verify_locations(cadata=b"".join(trust))
        except ssl.SSLError:
            raise Malformed(
                "the authority's parameters have a root that is no certificate; ask the authority"
            ) from None
    else:
        context.load_default_certs()
    return context


async def _exchange(method: str, url: str, trust: Trust, body: bytes | None, seconds: float) -> bytes:
    import aiohttp  # here, as it takes a third of the start-up of commands that need no network

    context = tls(trust) if url.startswith("https:") else False
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, ssl=context),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                skip_auto_headers=_LEFT_OUT,
                auto_decompress=False,
            ) as session,
            session.request(method, url, data=body, allow_redirects=False) as response,
        ):
            if response.status != 200:
                after = _seconds(response.headers.get("Retry-After", ""))
                raise _problem(response.status, await _read(response, MAX_PROBLEM), after)
            return await _read(response, MAX_BODY)
    except TimeoutError:
        raise Unreachable("the backend did not answer in time; it will be tried again") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
        raise Malformed("this is not a URL; one begins with http:// or https:// and a host") from None
    except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError):
        raise Unreachable(
            "the backend shows a certificate that the authority did not sign; run spot doctor, or ask the authority"
        ) from None
    except (aiohttp.ClientError, OSError):
        raise Unreachable("the backend cannot be reached; check the network, it will be tried again") from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > limit:
            raise Malformed(f"an answer of more than {limit} bytes is not read; the sender is broken or hostile")
    return bytes(data)


def _seconds(text: str) -> float:
    """How long a stranger asks to be left alone; the form with a date is not heeded."""
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def _problem(status: int, body: bytes, after: float = 0.0) -> SpotError:
    """The error that an RFC 9457 body names."""
    try:
        problem = json.loads(body)
        slug = str(problem["type"]).removeprefix("urn:spot:")
        text = _printable(str(problem["detail"])[:300])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = ""
    if not text:
        return Unreachable(f"the backend answered with status {status}; it will be tried again", after)
    return Unreachable(text, after) if status >= 500 else said(slug, text, after)


def said(slug: str, text: str, after: float = 0.0) -> SpotError:
    """The error that a stranger names, with what can be printed of its text. after: seconds to be left alone, or 0."""
    kind, text = error_named(slug), _printable(text)
    if issubclass(kind, Unreachable):
        return kind(text, after)
    return SpotError(text) if issubclass(kind, _OUR_OWN) else kind(text)


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
