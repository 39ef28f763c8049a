"""One server with all example agents, and what its tests talk to it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from durable.testing import ScriptedModel
from durable.testing import databases as postgres
from tests.examples.model import chat_server
from tests.examples.serving import dev, running


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    """A language model: its URL, and what it was asked."""
    with chat_server() as found:
        yield found


@pytest.fixture(scope="session")
def server_url(postgres_server: str, model: ScriptedModel) -> Iterator[str]:
    """The server that runs every example agent."""
    with postgres.fresh_database(postgres_server) as dsn:
        environment = {"DURABLE_DATABASE_URL": dsn, "DURABLE_VAR_MODEL_URL": model.url}
        with running(dev("tests/examples/combined.py"), environment) as url:
            yield url


@pytest.fixture
def host(server_url: str) -> str:
    """Host and port, as the clients want them."""
    return server_url.removeprefix("http://")


@pytest_asyncio.fixture
async def http(server_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose relative URLs go to the server."""
    async with aiohttp.ClientSession(server_url) as session:
        yield session
