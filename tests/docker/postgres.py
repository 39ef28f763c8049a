"""Postgres in a container, by testcontainers, for TEST_POSTGRES=docker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testcontainers.community.postgres import PostgresContainer

# What docker-compose.yml runs.
IMAGE = "pgvector/pgvector:pg17"


@contextmanager
def container() -> Iterator[str]:
    """A superuser's URL of a fresh server; it is gone afterwards."""
    running = PostgresContainer(IMAGE, driver=None).with_command(
        "postgres -c max_connections=300 -c max_locks_per_transaction=256"
    )
    with running:
        yield running.get_connection_url()
