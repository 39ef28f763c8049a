"""One fleet for the tests of a file, and an object for each test."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from durable.testing import Fleet
from tests.parity.probe import own_fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(durable_postgres: str) -> AsyncIterator[Fleet]:
    """Two nodes: what is asked of the first may be owned by the other."""
    async with own_fleet(durable_postgres, nodes=2) as running:
        yield running


@pytest.fixture
def stub(fleet: Fleet, request: pytest.FixtureRequest) -> Any:
    """An object that nobody else uses; its name is the test's, fit for a URL."""
    return fleet.env.Probe.get_by_name(re.sub(r"\W+", "-", request.node.name))


@pytest.fixture
def other(fleet: Fleet, stub: Any) -> Any:
    """Another one."""
    return fleet.env.Probe.get_by_name(f"{stub.name}-other")
