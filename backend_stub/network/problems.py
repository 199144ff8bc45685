"""Errors as they travel between programs: RFC 9457's problems, there and back."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from protocol import errors
from protocol.errors import Malformed, SpotError, Unreachable

MEDIA_TYPE = "application/problem+json"
LONGEST_TEXT = 500  # characters of what another part says
LONGEST_WAIT = 3600.0  # s that anybody can ask to be left alone


class NotFound(SpotError):
    """There is no such thing here, or not yet."""

    slug = "not-found"
    status = 404


class Problem(msgspec.Struct, frozen=True):
    """An error over HTTP (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def body_of(slug: str, status: int, text: str) -> bytes:
    """A problem as it travels."""
    return msgspec.json.encode(Problem(f"urn:spot:{slug}", HTTPStatus(status).phrase, status, text))


def body_of_status(status: int) -> bytes:
    """The problem of which only the status is known; a library's own words would repeat a stranger's bytes."""
    slug, text = "http", "this request asks for what is not done here; send it as the protocol says"
    if status == HTTPStatus.BAD_REQUEST:
        slug, text = Malformed.slug, "this is no HTTP request that can be read here; the sender is broken or hostile"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        slug, text = SpotError.slug, "something went wrong here; its operator must look"
    return body_of(slug, status, text)


def headers_of(error: SpotError) -> dict[str, str]:
    """What goes before its body: when to try again."""
    after = error.after if isinstance(error, Unreachable) else 0.0
    return {"Retry-After": str(max(1, round(after)))} if after else {}


def raw(error: SpotError) -> bytes:
    """The whole answer, for a connection on which there was no request yet."""
    body = body_of(error.slug, error.status, error.text)
    fields = headers_of(error) | {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", *(f"{a}: {b}" for a, b in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error_of(body: bytes, content_type: str, retry_after: str | None) -> SpotError:
    """The error that another part answered with."""
    if content_type == MEDIA_TYPE:
        try:
            said = msgspec.json.decode(body, type=Problem)
        except (ValueError, RecursionError):
            said = None
        text = _printable(said.detail) if said is not None else ""
        if said is not None and text:
            slug = said.type.removeprefix("urn:spot:")
            kind = NotFound if slug == NotFound.slug else errors.error_named(slug)
            return kind(text, _seconds(retry_after)) if issubclass(kind, Unreachable) else kind(text)
    return Unreachable("another part of the backend answers strangely; try again later", _seconds(retry_after))


def _printable(text: str) -> str:
    """What of another part's words can stand in a log."""
    return "".join(character for character in text[:LONGEST_TEXT] if character.isprintable())


def _seconds(retry_after: str | None) -> float:
    digits = retry_after or ""
    return min(float(digits), LONGEST_WAIT) if digits.isascii() and digits.isdigit() and len(digits) < 9 else 0.0
