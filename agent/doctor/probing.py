"""One look at a backend's URL: does it answer as one, with which certificate, and what time is it there."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from agent.transport import SYSTEM, Trust, tls
from protocol import messages
from protocol.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 10.0  # seconds for one URL
PARALLEL = 16
MAX_HEAD = 16 * 1024  # bytes of an answer's head

_BY_CODE = {  # OpenSSL's X509_V_ERR_…
    9: ("its certificate is not valid yet", "set this machine's clock right"),
    10: ("its certificate has expired", "have who runs it renew it; see that this machine's date is right"),
    18: ("its certificate is signed by itself", "have who runs it use one that a known authority signed"),
    62: ("its certificate is for another name", "check the URL; else ask who runs it"),
    64: ("its certificate is for another address", "check the URL; else ask who runs it"),
}
_UNKNOWN = ("its certificate is signed by nobody that this machine knows", "add that authority's certificate to it")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look at a URL showed.

    host: with its port; problem: why it does not answer as a backend, "" where it does; seconds: until it answered
    refused, remedy: what is wrong with its certificate; expires: when that runs out, seconds since 1970
    offset: seconds that this machine's clock is ahead of that of the backend, to within one
    """

    url: str
    host: str = ""
    encrypted: bool = False
    local: bool = False
    problem: str = ""
    seconds: float = 0.0
    refused: str = ""
    remedy: str = ""
    expires: float | None = None
    offset: float | None = None


async def probe_all(urls: Iterable[str], trust: Trust = SYSTEM) -> list[Probe]:
    """Look at all of these URLs, which end in no slash, with this trust. Raises nothing."""
    limit = asyncio.Semaphore(PARALLEL)

    async def one(url: str) -> Probe:
        async with limit:
            return await probe(url, trust)

    return list(await asyncio.gather(*(one(url) for url in urls)))


async def probe(url: str, trust: Trust = SYSTEM) -> Probe:
    """Look at one of them. Raises nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return Probe(url, problem="is not a URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Probe(url, problem="is not a URL; one begins with http:// or https:// and a host")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    seen = Probe(url, f"{name}:{port}", encrypted=parts.scheme == "https", local=_is_local(parts.hostname))
    try:
        async with asyncio.timeout(PATIENCE):
            return await _ask(seen, parts, port, trust)
    except TimeoutError:
        return replace(seen, problem="does not answer in time")
    except ssl.SSLCertVerificationError as error:
        refused, remedy = _BY_CODE.get(error.verify_code, _UNKNOWN)
        return replace(seen, problem="shows a certificate that is not to be trusted", refused=refused, remedy=remedy)
    except Malformed as error:
        return replace(seen, problem=error.text)
    except ssl.SSLError:
        return replace(seen, problem="does not speak TLS")
    except (OSError, EOFError, UnicodeError, ValueError, InvalidVersion) as error:
        return replace(seen, problem=f"cannot be reached ({_why(error)})")


def _why(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or "it answers in no form that is known"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _ask(seen: Probe, parts: SplitResult, port: int, trust: Trust) -> Probe:
    context = tls(trust) if seen.encrypted else None
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=MAX_HEAD)
    try:
        shown = writer.get_extra_info("ssl_object")
        if shown is not None:
            certificate = load_der_x509_certificate(shown.getpeercert(binary_form=True))
            seen = replace(seen, expires=certificate.not_valid_after_utc.timestamp())
        request = f"GET {parts.path}{messages.HEADS_PATH} HTTP/1.1\r\nHost: {seen.host}\r\nConnection: close\r\n"
        writer.write(f"{request}Accept: {messages.MEDIA_TYPE}\r\n\r\n".encode("ascii"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        now = time.time()
    except asyncio.LimitOverrunError:
        return replace(seen, problem="answers, but is no SPOT backend")
    finally:
        writer.transport.abort()
    status, _, rest = head.partition("\r\n")
    lines = (line.partition(":") for line in rest.split("\r\n"))
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}
    seen = replace(seen, seconds=time.monotonic() - began, offset=_offset(fields.get("date", ""), now))
    if status.split(" ")[1:2] != ["200"] or fields.get("content-type", "") != messages.MEDIA_TYPE:
        return replace(seen, problem="answers, but is no SPOT backend")
    return seen


def _offset(date: str, now: float) -> float | None:
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
