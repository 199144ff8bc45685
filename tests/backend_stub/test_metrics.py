"""What a part tells its operator: true, and nothing about a user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from backend_stub import settings
from backend_stub.network import calling
from backend_stub.operations.founding import Plan
from backend_stub.operations.running import running
from protocol import messages
from protocol.errors import SpotError
from tests.backend_stub import support
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.backend_stub.support import ManualClock

PATHS = {
    *(messages.NONCE_PATH, messages.JOIN_PATH, messages.HEADS_PATH, messages.PARAMETERS_PATH),
    *(messages.PUBLICATIONS_PATH, messages.SUBMISSION_PATH, messages.PARTIAL_PATH, messages.DECLARATION_PATH),
    "other",
}
LABELS = {
    "path": PATHS,
    "status": {"2xx", "3xx", "4xx", "5xx"},
    "outcome": {"verified", "refused", "signed", "pending"},
}
NAMES = {
    *("spot_requests_total", "spot_submissions_total"),
    *(
        f"spot_{name}{end}"
        for name in ("request_seconds", "pool_size", "database_seconds")
        for end in ("_bucket", "_count", "_sum")
    ),
    *("spot_queue_depth", "spot_tokens_waiting", "spot_parameters_age_seconds"),
    *("spot_connections", "spot_requests_in_hand"),
}
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")


@pytest.fixture
async def there(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    """A running backend whose parts are watched, all from the same port on."""
    await support.found(tmp_path / "backend", clock)
    first = settings.read_part(tmp_path / "backend" / "server").port + 500
    for part in settings.parts(tmp_path / "backend"):
        told = settings.read_part(tmp_path / "backend" / part)
        changed = {"watch_port": first}
        settings.write(tmp_path / "backend" / part, settings.read(type(told), tmp_path / "backend" / part, changed))
    async with running(tmp_path / "backend", clock) as backend, calling.session() as asking:
        made = World(backend, clock, asking)
        await support.ready(made)
        yield made


def watched(there: World) -> list[str]:
    """Where the parts tell how they are, in the order in which they were started."""
    first = settings.read_part(there.backend.folder / "server").watch_port
    return [f"http://127.0.0.1:{first + number}" for number in range(len(there.backend.parts))]


async def numbers(there: World) -> dict[str, float]:
    """Everything that all parts tell."""
    found: dict[str, float] = {}
    for url in watched(there):
        async with there.asking.get(f"{url}/metrics") as response:
            assert response.status == 200
            for line in (await response.text()).splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    found[name] = found.get(name, 0) + float(value)
    return found


async def test_the_numbers_are_true_and_about_nobody(there: World) -> None:
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    assert await there.submit(left, Encounter()) is None
    assert (await there.declare(left, await there.code(), [(met, record)])).accepted
    with pytest.raises(SpotError):
        await there.send_submission(support.NOTHING)
    async with there.asking.get(f"{there.proxies[0]}/who/are/{met.ccm.hex()}") as response:
        assert response.status == 404
    found = await numbers(there)
    assert found['spot_submissions_total{outcome="signed"}'] >= 1
    assert found['spot_submissions_total{outcome="pending"}'] >= 1
    assert found['spot_submissions_total{outcome="refused"}'] >= 1, "by a proxy, whose answer is no error"
    assert found['spot_requests_total{path="/v1/join",status="2xx"}'] == 2
    assert found['spot_requests_total{path="other",status="4xx"}'] == 1
    assert found["spot_tokens_waiting"] == 1
    assert found["spot_pool_size_count"] >= 2
    assert found["spot_database_seconds_count"] > 5
    assert found["spot_queue_depth"] == 0
    for line in found:
        matched = SAMPLE.match(f"{line} 0")
        assert matched is not None, line
        assert matched[1] in NAMES, line
        for label in filter(None, (matched[2] or "").split('",')):
            name, _, value = label.rstrip('"').partition('="')
            if name == "le":
                assert re.fullmatch(r"[0-9.]+|\+Inf", value), line
            else:
                assert value in LABELS[name], line


async def test_ready_is_who_can_work(there: World, clock: ManualClock) -> None:
    for url in watched(there):
        for path in ("/health", "/ready"):
            async with there.asking.get(url + path) as response:
                assert response.status == 200
    await there.backend.stop("authority")
    assert not await answers(there, watched(there)[0] + "/health"), "its port is let go of"
    clock.pass_by(days=31)
    for url in watched(there)[1:]:
        assert await answers(there, f"{url}/health")
        async with there.asking.get(f"{url}/ready") as response:
            assert response.status == 503
            assert "run out" in (await response.json(content_type=None))["detail"]


async def answers(there: World, url: str) -> bool:
    try:
        async with there.asking.get(url) as response:
            return response.status == 200
    except OSError:
        return False


async def test_nobody_is_told_unless_asked_for(tmp_path: Path, clock: ManualClock) -> None:
    assert Plan().port
    await support.found(tmp_path / "backend", clock)
    assert all(settings.read_part(tmp_path / "backend" / part).watch_port == 0 for part in ("authority", "server"))
