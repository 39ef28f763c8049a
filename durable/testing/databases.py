"""A real Postgres for tests: one server for the session, one database for each test.

The server is the embedded one, so nothing has to be installed; TEST_POSTGRES_URL
names another one (15 to 18, a superuser's URL). Its databases are copies of a template
that was migrated once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from server.embedded_postgres import data_location, embedded_postgres
from server.migrate import migrate

SHARDS = 1024

# Two runs may share a server.
_TEMPLATE = f"test_template_{os.getpid()}"
_numbers = itertools.count(1)


@contextmanager
def project_directory() -> Iterator[Path]:
    """A directory for a project that an ordinary user can enter.

    Unlike pytest's ``tmp_path``: there, as root, the embedded Postgres would have to
    keep its data elsewhere.
    """
    path = Path(tempfile.mkdtemp(prefix="durable-test-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(data_location(path / ".durable"), ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """The embedded Postgres in a directory of its own; yields an administrator's URL.

    A template in it is migrated.
    """
    lent = os.environ.get("TEST_POSTGRES_URL")
    if lent:
        _make_template(lent)
        try:
            yield lent
        finally:
            _execute(lent, "DROP DATABASE IF EXISTS {} WITH (FORCE)", _TEMPLATE)
        return
    with project_directory() as project, asyncio.Runner() as runner:
        running = embedded_postgres(project / ".durable")
        dsn = runner.run(running.__aenter__())
        try:
            _make_template(dsn)
            yield dsn
        finally:
            runner.run(running.__aexit__(None, None, None))


def _make_template(dsn: str) -> None:
    _execute(dsn, "DROP DATABASE IF EXISTS {} WITH (FORCE)", _TEMPLATE)
    _execute(dsn, "CREATE DATABASE {}", _TEMPLATE)
    migrate(_url(dsn, _TEMPLATE), SHARDS)


@contextmanager
def fresh_database(dsn: str, *, migrated: bool = True) -> Iterator[str]:
    """A database of its own on the server; yields its URL, drops it afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    if migrated:
        _execute(dsn, "CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE)
    else:
        _execute(dsn, "CREATE DATABASE {}", name)
    try:
        yield _url(dsn, name)
    finally:
        _execute(dsn, "DROP DATABASE {} WITH (FORCE)", name)


def _url(dsn: str, database: str) -> str:
    return make_url(dsn).set(database=database).render_as_string(hide_password=False)


def _execute(dsn: str, statement: str, *names: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        identifiers = [sql.Identifier(name) for name in names]
        connection.execute(sql.SQL(statement).format(*identifiers))
