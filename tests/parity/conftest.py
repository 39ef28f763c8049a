"""One fleet for the tests of a file, and an object for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from durable.testing import Fleet, databases
from tests.parity.probe import Mute, Probe


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(durable_postgres: str) -> AsyncIterator[Fleet]:
    """Two nodes: what is asked of the first may be owned by the other."""
    with databases.fresh_database(durable_postgres) as url:
        async with Fleet([Probe, Mute], url, nodes=2) as running:
            yield running


@pytest.fixture
def stub(fleet: Fleet, request: pytest.FixtureRequest) -> Any:
    """An object that nobody else uses; its name is the test's."""
    return fleet.env.Probe.get_by_name(request.node.name)


@pytest.fixture
def other(fleet: Fleet, request: pytest.FixtureRequest) -> Any:
    """Another one."""
    return fleet.env.Probe.get_by_name(f"{request.node.name}-other")
