"""Fixtures for every floor; they only hand on what the test kit makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["durable.testing"]


@pytest.fixture(scope="session")
def postgres_server(durable_postgres: str) -> str:
    """Administrator's URL of the session's embedded Postgres."""
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
