"""What the parts answer, for other programs: `openapi`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from backend_stub.operations import openapi
from protocol.errors import Misuse


def show_openapi(
    part: Annotated[
        list[str] | None, typer.Option(help="Only this part: authority, server or proxy; again for another.")
    ] = None,
) -> None:
    """Print the OpenAPI 3.1 document of what the parts answer over HTTP.

    spot-backend openapi --part proxy
    """
    unknown = set(part or ()) - set(openapi.PARTS)
    if unknown:
        raise Misuse(f"there is no part {unknown.pop()!r}; there are {', '.join(openapi.PARTS)}")
    typer.echo(json.dumps(openapi.document(part or openapi.PARTS), indent=1))
