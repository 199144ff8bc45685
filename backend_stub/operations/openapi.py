"""The OpenAPI 3.1 document of what the parts answer over HTTP, made from the very structs that are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import msgspec

from backend_stub.authority import service as authority
from backend_stub.network import problems, web
from backend_stub.network.problems import Problem
from backend_stub.proxy.service import SUBMISSION_LIMIT
from backend_stub.server import service as server
from protocol import messages

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = ("authority", "server", "proxy")
REFERENCE = "#/components/schemas/{name}"
DESCRIPTION = (
    "Bodies are MessagePack maps of the fields given here (docs/protocol.md has the protocol). What a schema gives as "
    "base64 travels as MessagePack's bin, unencoded; lengths given for it are those of the base64 form."
)
# What any path can answer: see docs/protocol.md, 3.3.
_ALWAYS = {
    408: "The request's head came too slowly.",
    500: "Something went wrong here.",
    503: "Too many at once, or another part is away: try again, no sooner than Retry-After says.",
}
_BODY = {400: "The body is too large, or not such a message."}
_PROXIES = {403: "Only proxies that the authority's parameters list are answered, by their certificates."}
_MANY = {429: "Too many a second: try again, no sooner than Retry-After says."}
_PARAMETERS = {502: "The parameters have run out, or the authority shows others than before."}


@dataclass(frozen=True, slots=True)
class Operation:
    """One path and method. takes, limit: the body and how many bytes of it are read; gives: the answer."""

    method: str
    path: str
    parts: tuple[str, ...]
    summary: str
    gives: type[messages.Message]
    errors: dict[int, str]
    takes: type[messages.Message] | None = None
    limit: int = 0
    padded: str = ""


_READ = ("authority", "proxy")
_LATER = {404: "There is no such link, or not yet."}
OPERATIONS = (
    Operation("post", messages.NONCE_PATH, ("authority",), "A nonce for a join.", messages.Nonce, _MANY),
    Operation(
        "post",
        messages.JOIN_PATH,
        ("authority",),
        "Join: a credential for an invitation.",
        messages.Issued,
        _BODY
        | _MANY
        | {403: "The invitation or the proof is refused.", 409: "For another key: fetch the parameters anew."},
        messages.UserJoin,
        authority.JOIN_LIMIT,
    ),
    Operation(
        "post",
        messages.RENEWAL_PATH,
        ("authority",),
        "Renew: a credential under a later issuer for a member.",
        messages.Issued,
        _BODY
        | _MANY
        | {403: "No member, or the proof is refused.", 409: "For another key: fetch the parameters anew."},
        messages.Renewal,
        authority.JOIN_LIMIT,
    ),
    Operation("get", messages.HEADS_PATH, _READ, "How far the two chains go.", messages.Heads, {}),
    Operation("get", messages.PARAMETERS_PATH, _READ, "A link of the parameters.", messages.Link, _LATER),
    Operation("get", messages.PUBLICATIONS_PATH, _READ, "A link of the publications.", messages.Link, _LATER),
    Operation(
        "post",
        messages.DECLARATION_PATH,
        _READ,
        "Declare: a sealed receipt for a sealed report. The authority answers proxies only.",
        messages.Receipt,
        _BODY | _PROXIES | _MANY | {409: "For other parameters, or another key: fetch the parameters anew."},
        messages.SealedReport,
        web.DECLARATION_LIMIT,
        "Sealed under the report's reply key, to a sixteenth of the report's size class and 28 bytes. It comes after a "
        "time that the size alone fixes; if the report is not checked by then, it says so.",
    ),
    Operation(
        "post",
        messages.SUBMISSION_PATH,
        ("proxy",),
        "Submit one side of a contact.",
        messages.Answer,
        _BODY | _MANY | _PARAMETERS,
        messages.Submission,
        SUBMISSION_LIMIT,
        f"Padded to {messages.ANSWER_SIZE} bytes, also where the submission is refused.",
    ),
    Operation(
        "post",
        messages.PARTIAL_PATH,
        ("server",),
        "Match and sign partially, many at once, for proxies only.",
        messages.Outcomes,
        _BODY | _PROXIES | _PARAMETERS,
        messages.Submissions,
        server.BODY_LIMIT,
    ),
)


def document(parts: Iterable[str] = PARTS) -> dict[str, Any]:
    """The document of these parts."""
    wanted = set(parts)
    shown = [one for one in OPERATIONS if wanted & set(one.parts)]
    kinds = dict.fromkeys([kind for one in shown for kind in (one.takes, one.gives) if kind is not None])
    _, schemas = msgspec.json.schema_components([*kinds, Problem], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for one in shown:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "SPOT backend", "version": _version(), "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))  # defaults as JSON has them
    return found


def _version() -> str:
    try:
        return version("spot-agent")
    except PackageNotFoundError:
        return "0"


def _operation(one: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "summary": one.summary,
        "tags": list(one.parts),
        "responses": {"200": {"description": one.padded or "Done.", "content": _content(one.gives)}}
        | {str(status): _problem(text) for status, text in sorted((_ALWAYS | one.errors).items())},
    }
    if "{number}" in one.path:
        number = {"type": "integer", "minimum": 0, "maximum": 10**9 - 1}
        made["parameters"] = [{"name": "number", "in": "path", "required": True, "schema": number}]
    if one.takes is not None:
        text = f"At most {one.limit} bytes."
        made["requestBody"] = {"required": True, "description": text, "content": _content(one.takes)}
        made["x-limit-bytes"] = one.limit
    return made


def _content(kind: type[msgspec.Struct], media_type: str = messages.MEDIA_TYPE) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": _content(Problem, problems.MEDIA_TYPE)}
