"""Fixtures for every floor; they only hand on what ``tests/support`` makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Administrator's URL of the session's embedded Postgres."""
    with postgres.server() as dsn:
        yield dsn


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """A migrated database (1024 shards) for this test alone."""
    with postgres.fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """A database for this test alone, in which nothing was ever done."""
    with postgres.fresh_database(postgres_server, migrated=False) as dsn:
        yield dsn


@pytest.fixture
def project_dir() -> Iterator[Path]:
    """A directory in which ``durable dev`` can run, also when we are root."""
    with postgres.project_directory() as path:
        yield path
