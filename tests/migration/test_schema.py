from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from durable.store.tables import SCHEMA, metadata
from server.migrate import migrate


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(
    empty_database_url: str,
) -> None:
    migrate(empty_database_url, 8)
    url = make_url(empty_database_url).set(drivername="postgresql+psycopg")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": SCHEMA,
                "include_schemas": True,
                "include_name": lambda name, kind, _: (
                    kind != "schema" or name == SCHEMA
                ),
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []
