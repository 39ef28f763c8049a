"""How Alembic reaches the database: one transaction, one migrating node at a time."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from durable.store.tables import SCHEMA, metadata

# Advisory locks of class 17491 are ours; 17489, 17490 and 17492 belong to the lanes.
_LOCK = text("SELECT pg_advisory_xact_lock(17491, 0)")


def _run(connection: Connection) -> None:
    """Locks, then migrates, in the transaction of the connection.

    Whoever waited for the lock reads the version that the first one has committed,
    and finds nothing to do.
    """
    # Scripts of functions are full of "%": no parameters, so psycopg leaves it alone.
    # (Write such a script with exec_driver_sql: text() would double its "%".)
    connection.execution_options(no_parameters=True)
    connection.execute(_LOCK)
    # Alembic puts its version table there before the first migration runs.
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
        compare_server_default=True,
    )
    context.run_migrations()


def _run_alone() -> None:
    """For the ``alembic`` command, while developing."""
    url = make_url(os.environ["DURABLE_DATABASE_URL"])
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        _run(connection)


if context.is_offline_mode():
    raise SystemExit("migrations contain checks that need a database (no --sql)")
given = context.config.attributes.get("connection")
if given is None:
    _run_alone()
else:
    _run(given)
