"""The OpenAPI document: valid, and true of the running parts."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from backend_stub import cli
from backend_stub.network import web
from backend_stub.operations import openapi
from protocol import messages
from tests.backend_stub import support

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web as http

    from tests.backend_stub.support import ManualClock, World


@pytest.mark.parametrize("parts", [openapi.PARTS, *((part,) for part in openapi.PARTS)])
def test_it_is_valid(parts: tuple[str, ...]) -> None:
    validate(openapi.document(parts))


def test_it_can_be_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for part, code in (("server", 0), ("nobody", 2)):
        monkeypatch.setattr(sys, "argv", ["spot-backend", "openapi", "--part", part])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert int(end.value.code or 0) == code
        if code == 0:
            assert list(json.loads(capsys.readouterr().out)["paths"]) == [messages.PARTIAL_PATH]


async def test_it_has_all_that_is_answered(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[http.Application] = []
    make = web.application

    def recorded(*arguments: Any) -> http.Application:
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(web, "application", recorded)
    await support.found(tmp_path / "backend", clock)
    async with support.world(tmp_path / "backend", clock) as there:
        order = [part.partition("-")[0] for part in there.backend.parts]
    assert len(made) == len(order)
    answered = {
        (part, route.method.lower(), route.resource.canonical)
        for part, app in zip(order, made, strict=True)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(part, one.method, one.path) for one in openapi.OPERATIONS for part in one.parts}
    assert answered == described


async def test_sizes_types_and_errors_are_as_it_says(there: World) -> None:
    document = openapi.document()
    bases = {"authority": there.backend.authority, "server": there.backend.server, "proxy": there.proxies[0]}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            for part in described["tags"]:
                url = bases[part] + path.replace("{number}", "0")
                limit = described.get("x-limit-bytes")
                bodies = [None] if limit is None else [bytes(limit), bytes(limit + 1)]
                for body in bodies:
                    data = None if body is None else io.BytesIO(body)
                    async with there.asking.request(method, url, data=data) as response:
                        said = described["responses"][str(response.status)]
                        assert response.content_type in said["content"], (part, path, response.status)
                        if body is not None:
                            too_large = b"larger than the" in await response.read()
                            assert response.status == 400
                            assert too_large is (len(body) > limit), (part, path)
