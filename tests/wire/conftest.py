"""One fleet for the whole wire suite; a session and helpers for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from durable.testing import databases as postgres
from tests.wire.process import Driver, need_node, running_fleet, running_server
from tests.wire.raw import Wire


@pytest.fixture(scope="session")
def wire_url(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a front end; the agents under test are on two workers behind it."""
    with (
        postgres.fresh_database(postgres_server) as database_url,
        running_fleet(database_url, tmp_path_factory.mktemp("wire")) as url,
    ):
        yield url


@pytest.fixture
def sleepy_url(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a server that evicts idle objects almost at once."""
    log = tmp_path_factory.mktemp("sleepy") / "server.log"
    with (
        postgres.fresh_database(postgres_server) as database_url,
        running_server(database_url, log, DURABLE_IDLE_SECONDS="0.1") as url,
    ):
        yield url


@pytest.fixture
async def wire(wire_url: str) -> AsyncIterator[Wire]:
    """A raw client of the server."""
    async with aiohttp.ClientSession() as session:
        yield Wire(session, wire_url)


@pytest.fixture
async def sleepy(sleepy_url: str) -> AsyncIterator[Wire]:
    """A raw client of the server that evicts idle objects."""
    async with aiohttp.ClientSession() as session:
        yield Wire(session, sleepy_url)


@pytest.fixture(scope="session")
def drivers(
    wire_url: str, request: pytest.FixtureRequest
) -> Iterator[dict[str, Driver]]:
    """The Node drivers, all started at once with the checks that were selected."""
    need_node()
    selected: dict[str, list[str]] = {}
    for item in request.session.items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "check" in params:
            selected.setdefault(params["driver"], []).append(params["check"])
    running = {name: Driver(name, wire_url, only) for name, only in selected.items()}
    yield running
    for driver in running.values():
        driver.stop()
