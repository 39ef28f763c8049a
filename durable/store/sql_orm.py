"""SQLAlchemy over an agent's transaction: every statement passes both walls.

There is no connection that SQLAlchemy could use past us: its "driver" here is the
transaction itself, so each statement is parsed by the guard, runs under the agent's
role behind the fence, and is undone by itself if it fails. The session works in
savepoints; only the block's end commits, with the object's write set.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Engine, NullPool, exc, literal, make_url, select, table
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

from durable.domain.errors import SqlError

if TYPE_CHECKING:
    from durable.store.sql_transaction import AgentTransaction

# Rows of one INSERT: a statement stays far below the guard's limit of bytes.
_ROWS_PER_INSERT = 200
_OLDEST_SERVER = (15, 0)
_SAVEPOINT = re.compile(r"[a-z][a-z0-9_]{0,40}")

_current: ContextVar[AgentTransaction] = ContextVar("orm transaction")


class _Cursor:
    """What SQLAlchemy needs of a DBAPI cursor; the rows are in memory."""

    arraysize = 1
    lastrowid = None

    def __init__(self, transaction: AgentTransaction) -> None:
        self._transaction = transaction
        self._rows: deque[tuple[Any, ...]] = deque()
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1

    def execute(self, statement: str, params: Sequence[object] | None = None) -> None:
        try:
            result = await_only(self._transaction.run_native(statement, params or ()))
        except SqlError as error:
            raise _driver_error(error) from error
        self._rows = deque(result.rows)
        self.description = [
            (name, kind, None, None, None, None, None) for name, kind in result.columns
        ] or None
        self.rowcount = result.rowcount

    def executemany(self, statement: str, many: Sequence[Sequence[object]]) -> None:
        changed = 0
        for params in many:
            self.execute(statement, params)
            changed += max(self.rowcount, 0)
        self.rowcount = changed

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        count = min(size or self.arraysize, len(self._rows))
        return [self._rows.popleft() for _ in range(count)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = list(self._rows), deque()
        return rows

    def setinputsizes(self, *_: object) -> None:
        """Types are rendered as casts."""

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Nothing waits at the server."""


class _Connection:
    """What SQLAlchemy takes for a DBAPI connection. The block ends the transaction."""

    def __init__(self, transaction: AgentTransaction) -> None:
        self._transaction = transaction

    def cursor(self) -> _Cursor:
        return _Cursor(self._transaction)

    def savepoint(self, verb: bytes, name: str) -> None:
        if _SAVEPOINT.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name for a savepoint")
        await_only(self._transaction.savepoint(verb + name.encode()))

    def commit(self) -> None:
        """Nothing: see the module."""

    def rollback(self) -> None:
        """Nothing: see the module."""

    def close(self) -> None:
        """Nothing: the session goes back when the transaction ends."""


class _Dialect(PGDialectAsync_psycopg):
    """Postgres as psycopg's dialect speaks it, with our placeholders, never asking."""

    supports_statement_cache = True
    supports_server_side_cursors = False
    default_paramstyle = "numeric_dollar"
    server_version_info = _OLDEST_SERVER

    def do_savepoint(self, connection: Any, name: str) -> None:
        connection.connection.dbapi_connection.savepoint(b"SAVEPOINT ", name)

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        verb = b"ROLLBACK TO SAVEPOINT "
        connection.connection.dbapi_connection.savepoint(verb, name)

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        connection.connection.dbapi_connection.savepoint(b"RELEASE SAVEPOINT ", name)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False

    def has_table(
        self, connection: Any, table_name: str, schema: str | None = None, **_: Any
    ) -> bool:
        """Ask the table itself: the catalogs are behind the wall."""
        query = select(literal(1)).select_from(table(table_name, schema=schema))
        try:
            connection.execute(query.limit(0))
        except exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != "42P01":
                raise
            return False
        return True

    def has_multi_table(
        self,
        connection: Any,
        table_names: Sequence[str],
        schema: str | None = None,
        **_: Any,
    ) -> list[tuple[tuple[str | None, str], bool]]:
        return [
            ((schema, name), self.has_table(connection, name, schema))
            for name in table_names
        ]


def _driver_error(error: SqlError) -> psycopg.Error:
    """As the driver would have said it, so that SQLAlchemy raises what users expect."""
    kind: type[psycopg.Error] = psycopg.ProgrammingError
    if error.sqlstate is not None:
        try:
            kind = psycopg.errors.lookup(error.sqlstate)
        except KeyError:
            kind = psycopg.DatabaseError
    return kind(str(error))


def _engine() -> AsyncEngine:
    kind: Any = _Dialect  # SQLAlchemy's dialects have no types
    dialect = kind(
        dbapi=kind.import_dbapi(),
        paramstyle=kind.default_paramstyle,
        insertmanyvalues_page_size=_ROWS_PER_INSERT,
    )

    def connect(*_: object) -> Any:
        return _Connection(_current.get())

    pool = NullPool(connect, dialect=dialect, reset_on_return=None)
    return AsyncEngine(Engine(pool, dialect, make_url("postgresql+psycopg://")))


# One for all: it holds no connection, but what SQLAlchemy has compiled.
_ENGINE = _engine()


@asynccontextmanager
async def orm_session(transaction: AgentTransaction) -> AsyncIterator[AsyncSession]:
    """A session whose end flushes into the transaction, and commits nothing yet.

    Raises:
        SqlError: the block has ended the connection's own transaction.
    """
    token = _current.set(transaction)
    try:
        connection = await _ENGINE.connect()
    finally:
        _current.reset(token)
    async with aclosing(connection):
        outer = await connection.begin()
        async with AsyncSession(
            connection,
            expire_on_commit=False,
            join_transaction_mode="create_savepoint",
        ) as session:
            yield session
            if not outer.is_active:
                raise SqlError(
                    "orm() ends the transaction itself: inside of it use the "
                    "session's commit and rollback, not the connection's",
                    query="",
                )
            await session.commit()
