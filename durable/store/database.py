"""The pool for reads and for commits off the lane; driver errors end here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from durable.domain.errors import (
    CommitFailed,
    CommitUnknown,
    DataRefused,
    DurableError,
    Unavailable,
)
from durable.domain.writes import Claim, WriteSet
from durable.store.commit import COMMIT_OFF_LANE, off_lane

STALE = "DF001"
# Classes of SQLSTATE that say: this data, not this moment, is the problem.
_DATA_CLASSES = ("22", "23", "54")
# InternalClientError: a statement on a connection that is just being ended.
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """Nothing here changes session state: no reset query at each release."""

    def get_reset_query(self) -> str:
        return ""


def session_settings(limit: float, name: str) -> dict[str, str]:
    """Server settings of every session; no server-side timer is over ``limit`` s."""
    milliseconds = str(int(limit * 1000))
    return {
        "application_name": name,
        "statement_timeout": str(int(limit * 500)),
        "idle_in_transaction_session_timeout": milliseconds,
        "client_connection_check_interval": "1000",
        "tcp_user_timeout": milliseconds,
        "tcp_keepalives_idle": "4",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "4",
        "synchronous_commit": "on",
        "jit": "off",
    }


def commit_error(error: BaseException) -> DurableError:
    """What a driver's error in a commit means for the objects in it."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if not state.startswith(("08", "57")):
            kind = DataRefused if state[:2] in _DATA_CLASSES else CommitFailed
            return kind(f"Postgres refused the commit ({state}): {error}")
    return CommitUnknown(f"the connection to Postgres was lost in a commit: {error}")


class Database:
    """One asyncpg pool; open with ``async with``."""

    def __init__(self, dsn: str, *, limit: float, size: int, name: str) -> None:
        self._dsn = dsn
        self._limit = limit
        self._size = size
        self._name = name
        self._pool: asyncpg.Pool

    async def __aenter__(self) -> Database:
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._size,
                connection_class=_Connection,
                server_settings=session_settings(self._limit, self._name),
            )
        except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
            raise Unavailable(f"Postgres can't be reached: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def fetch(self, query: str, *params: object) -> list[Any]:
        """The rows of a query.

        Raises:
            Unavailable: Postgres can't be reached, or answered too late.
        """
        async with self.connection() as connection:
            rows: list[Any] = await connection.fetch(query, *params)
            return rows

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A pooled connection; driver errors inside become Unavailable."""
        try:
            async with self._pool.acquire(timeout=self._limit) as connection:
                yield connection
        except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
            raise Unavailable(f"Postgres did not answer: {error}") from error

    async def commit(self, object_id: Any, claim: Claim, writes: WriteSet) -> None:
        """Commit one object's write set off the lane.

        Raises:
            CommitFailed: refused, or the claim is stale; nothing was written.
            CommitUnknown: the connection was lost.
        """
        try:
            async with self._pool.acquire(timeout=self._limit) as connection:
                await connection.execute(
                    COMMIT_OFF_LANE, *off_lane(object_id, claim, writes)
                )
        except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
            raise commit_error(error) from error
        except (ValueError, TypeError) as error:
            # The driver couldn't encode a value: nothing was sent.
            raise DataRefused(f"a value was refused: {error}") from error
