"""A pytest plugin: agents tested on a real fleet, with a clock that the test moves.

``pytest_plugins = ["durable.testing"]`` in conftest.py gives these fixtures:

- ``fleet``: one node with the project's classes, on a database of its own; see
  ``durable.testing.fleet.Fleet``. ``fleet.clock`` stands still until it is moved.
- ``make_fleet``: makes fleets of several nodes, or with other options.
- ``durable_app``: what is served; define it to serve something else than ``main`` of
  durable.toml, or app.py: a module's path, or a list of classes.
- ``durable_database_url``: a migrated database for this test alone.
- ``durable_postgres``: the session's embedded Postgres, or TEST_POSTGRES_URL.

``ScriptedModel`` stands in for a language model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from durable.testing import databases
from durable.testing.clock import VirtualClock
from durable.testing.fleet import App, Fleet
from durable.testing.model import Answer, ScriptedModel, ToolCall
from server.config import load_project

__all__ = ["Answer", "Fleet", "ScriptedModel", "ToolCall", "VirtualClock"]


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[str]:
    """An administrator's URL of the session's Postgres."""
    with databases.server() as url:
        yield url


@pytest.fixture
def durable_database_url(durable_postgres: str) -> Iterator[str]:
    """A migrated database for this test alone."""
    with databases.fresh_database(durable_postgres) as url:
        yield url


@pytest.fixture
def durable_app() -> App:
    """The project's module."""
    main = load_project(Path.cwd()).main
    return "app.py" if main is None else str(main.value)


@pytest_asyncio.fixture
async def make_fleet(
    durable_app: App, durable_database_url: str
) -> AsyncIterator[Callable[..., Awaitable[Fleet]]]:
    """Make a fleet on this test's database; arguments are those of ``Fleet``."""
    async with AsyncExitStack() as stack:

        async def make(app: App = durable_app, **options: Any) -> Fleet:
            return await stack.enter_async_context(
                Fleet(app, durable_database_url, **options)
            )

        yield make


@pytest_asyncio.fixture
async def fleet(make_fleet: Callable[..., Awaitable[Fleet]]) -> Fleet:
    """One node, on a clock that stands still."""
    return await make_fleet()
