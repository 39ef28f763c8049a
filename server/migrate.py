"""Bringing a database to the schema of this version, and refusing any other."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy import Connection

_OLDEST: Final = 15
_CONNECT_SECONDS: Final = 10
_MIGRATE: Final = "run `durable migrate`"


class SchemaError(Exception):
    """The database can't be used as it is; the text says what to run."""


def _migrations() -> Path:
    """Beside this file in an installed package, beside its folder in the sources."""
    here = Path(__file__).resolve().parent
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def migrate(dsn: str, shards: int) -> str:
    """Upgrades to the newest schema, in one transaction; returns its revision.

    Any number of nodes may do so at the same moment. ``shards`` counts only for a
    database that is empty: afterwards it is fixed.

    Raises:
        SchemaError: the database can't be reached, or is too old or too new.
    """
    config = _config()
    url = make_url(dsn).set(drivername="postgresql+psycopg")
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS}
    )
    try:
        with engine.begin() as connection:
            _require_postgres(connection.connection.dbapi_connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.execution_options(no_parameters=False)  # as env.py wants it
            _fix_shards(connection, shards)
    except OperationalError as error:
        raise SchemaError(unreachable(dsn, error.orig)) from error
    except CommandError as error:
        raise SchemaError(
            f"the schema of this database is newer than this version of "
            f"durable-agents ({error}): upgrade durable-agents"
        ) from error
    return head()


def head() -> str:
    """The revision that this version of the code works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise SchemaError(f"there are no migrations in {_migrations()}")
    return revision


def _require_postgres(connection: object) -> None:
    if isinstance(connection, psycopg.Connection):
        _check_version(connection.info.server_version // 10_000)


def _check_version(major: int) -> None:
    if major < _OLDEST:
        raise SchemaError(f"this is Postgres {major}; {_OLDEST} is the oldest we use")


def _fix_shards(connection: Connection, shards: int) -> None:
    """Writes the number of shards, and their rows, unless that was done before."""
    first = connection.execute(
        text(
            "INSERT INTO durable.cluster (shards, link_secret)"
            " VALUES (:shards, :secret) ON CONFLICT DO NOTHING RETURNING true"
        ),
        {"shards": shards, "secret": secrets.token_hex(32)},
    )
    if first.scalar():
        connection.execute(
            text(
                "INSERT INTO durable.shard (id)"
                " SELECT s FROM generate_series(0, :last) s"
            ),
            {"last": shards - 1},
        )


async def check_schema(dsn: str, shards: int | None) -> int:
    """Refuses a database with a schema or a number of shards that isn't ours.

    Returns the number of shards; None stands for any.

    Raises:
        SchemaError: with what to run.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise SchemaError(unreachable(dsn, error)) from error
    try:
        _check_version(connection.get_server_version().major)
        try:
            found = await connection.fetchval(
                "SELECT version_num FROM durable.alembic_version"
            )
            fixed = await connection.fetchval("SELECT shards FROM durable.cluster")
        except (
            asyncpg.UndefinedTableError,
            asyncpg.InvalidSchemaNameError,
        ):
            raise SchemaError(
                f"this database has no schema for durable objects yet: {_MIGRATE}"
            ) from None
    finally:
        await connection.close()
    return _compare(found, fixed, shards)


def _compare(found: str | None, fixed: int | None, shards: int | None) -> int:
    newest = head()
    if found is None or fixed is None:
        raise SchemaError(f"this database was never migrated completely: {_MIGRATE}")
    if found != newest:
        if _is_known(found):
            raise SchemaError(
                f"the schema of this database is older ({found}) than this version of "
                f"durable-agents needs ({newest}): {_MIGRATE}"
            )
        raise SchemaError(
            f"the schema of this database ({found}) is newer than this version of "
            f"durable-agents knows ({newest}): upgrade durable-agents"
        )
    if shards is not None and fixed != shards:
        raise SchemaError(
            f"this database was initialised with {fixed} shards, which is final, and "
            f"this node is set to {shards}: set DURABLE_SHARDS={fixed}"
        )
    return fixed


def _is_known(revision: str) -> bool:
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError:
        return False
    return True


def unreachable(dsn: str, error: BaseException | None) -> str:
    """Says which database can't be reached, and why, without its password."""
    shown = make_url(dsn).render_as_string(hide_password=True)
    return f"the database {shown} can't be reached: {str(error).strip()}"
