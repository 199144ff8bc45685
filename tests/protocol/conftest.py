"""Every test that asks for `curve` or `world` runs with both makers of the curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from protocol.curve import MAKERS
from tests.support import world_of

if TYPE_CHECKING:
    from protocol.curve import Curve
    from tests.support import World


# A busy machine is no failure: nothing here is judged by how long it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", params=MAKERS)
def maker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def world(maker: str) -> World:
    return world_of(maker)


@pytest.fixture(scope="session")
def curve(world: World) -> Curve:
    return world.curve
