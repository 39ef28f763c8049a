"""Fixtures for every floor; they only hand on what the test kit makes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest_plugins = ["durable.testing"]


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[str]:
    """The session's Postgres: embedded, or a container (TEST_POSTGRES=docker)."""
    from durable.testing import databases

    with ExitStack() as stack:
        if os.environ.get("TEST_POSTGRES") == "docker":
            from tests.docker.postgres import container

            os.environ["TEST_POSTGRES_URL"] = stack.enter_context(container())
            stack.callback(os.environ.pop, "TEST_POSTGRES_URL")
        yield stack.enter_context(databases.server())


@pytest.fixture(scope="session")
def postgres_server(durable_postgres: str) -> str:
    """Administrator's URL of the session's Postgres."""
    return durable_postgres


@pytest.fixture
def database_url(durable_database_url: str) -> str:
    """A migrated database (1024 shards) for this test alone."""
    return durable_database_url


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """A database for this test alone, in which nothing was ever done."""
    from durable.testing import databases

    with databases.fresh_database(postgres_server, migrated=False) as dsn:
        yield dsn


@pytest.fixture
def project_dir() -> Iterator[Path]:
    """A directory in which ``durable dev`` can run, also when we are root."""
    from durable.testing import databases

    with databases.project_directory() as path:
        yield path
