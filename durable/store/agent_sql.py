"""Runs an agent's SQL in the agent's own schema, off the lane, under the fence.

One statement is one round trip and one transaction: BEGIN; the fence, the agent's
search path and role; the statement; the object's pending write set, under our own role
again; COMMIT. So "state, then SQL" commits together and in order, and a former owner
of the shard can neither read nor write. Nothing is prepared: a plan made for one
agent's tables must never serve another's.

Errors: SqlError says that nothing was written, the write set neither (it is still to
be committed). CommitFailed: the claim is stale, or Postgres refused the write set.
CommitUnknown: the connection was lost and the transaction could change something.
Unavailable: no connection, and nothing changed. A ``run`` that is cancelled may have
committed: its caller treats that as CommitUnknown.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from durable.domain.errors import SettingsError, Unavailable
from durable.domain.sql_result import SqlResult
from durable.store.sql_errors import sql_error
from durable.store.sql_guard import SqlGuard
from durable.store.sql_login import AgentSqlSettings, Login, prepare_login
from durable.store.sql_outcome import Layout, settle
from durable.store.sql_session import Session
from durable.store.sql_steps import PREPARE_OPENING, closing, dropping
from durable.store.sql_transaction import AgentTransaction, Call
from durable.store.sql_values import (
    RESULT_ADAPTERS,
    ReadingMemory,
    from_template,
    is_template,
)

if TYPE_CHECKING:
    from durable.domain.ports import SqlTarget
    from durable.domain.writes import WriteSet

log = logging.getLogger(__name__)


class _LastFirst(deque[AsyncConnection[Any]]):
    """Idle connections; the one that was used last is taken first."""

    def popleft(self) -> AsyncConnection[Any]:
        return self.pop()


class AgentSql:
    """The pool of sessions for agents' SQL; open with ``async with``."""

    def __init__(self, settings: AgentSqlSettings) -> None:
        self._settings = settings
        self._login: Login
        self._guard: SqlGuard
        self._pool: AsyncConnectionPool[AsyncConnection[Any]]
        self._refused: SettingsError | None = None
        self._memory = ReadingMemory()

    async def __aenter__(self) -> AgentSql:
        """Log in. A database that forbids it fails agents' SQL, not the node.

        Raises:
            Unavailable: Postgres can't be reached.
        """
        try:
            self._login = await prepare_login(self._settings)
        except SettingsError as error:
            log.warning("agents can't use SQL", extra={"reason": str(error)})
            self._refused = error
            return self
        self._guard = SqlGuard(self._login.server_names)
        self._pool = AsyncConnectionPool(
            self._login.conninfo,
            kwargs={"autocommit": True, "context": RESULT_ADAPTERS},
            min_size=0,
            max_size=self._settings.connections,
            timeout=self._settings.wait_seconds,
            configure=_configure,
            open=False,
            name="agent sql",
        )
        # There is no option for it. Taking turns would make a read half as long again:
        # each of the backends would have cold caches.
        self._pool._pool = _LastFirst()  # noqa: SLF001
        await self._pool.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._refused is None:
            await self._pool.close()

    async def run(
        self,
        target: SqlTarget,
        statement: Any,
        params: Sequence[object] = (),
        writes: WriteSet | None = None,
    ) -> SqlResult:
        """Run a statement (text, or a t-string) and commit it with the write set."""
        call = self._prepare(statement, params)
        transaction = await self.begin(target)
        return await transaction.run_and_commit(call, writes)

    async def begin(self, target: SqlTarget) -> AgentTransaction:
        """Start a transaction; whoever does must ``commit`` or ``roll_back``.

        Nothing is sent yet: BEGIN and the fence go out with the first statement.
        """
        session = await self._take()
        return AgentTransaction(
            session,
            target,
            self._login.role_prefix,
            prepare=self._prepare,
            memory=self._memory,
            take=self._take,
            release=self._give_back,
        )

    @asynccontextmanager
    async def transaction(self, target: SqlTarget) -> AsyncIterator[AgentTransaction]:
        """Begin; commit at the end of the block unless done, roll back if it raises."""
        transaction = await self.begin(target)
        try:
            yield transaction
        except BaseException:
            await transaction.roll_back()
            raise
        if not transaction.ended:
            await transaction.commit()

    async def drop_schema(
        self, target: SqlTarget, writes: WriteSet | None = None
    ) -> None:
        """Drop all that the agent made with SQL, together with the write set."""
        session = await self._take()
        try:
            before = dropping(session, target)
            steps = [*before, *closing(session, target, writes)]
            layout = Layout(
                opening=len(before),
                statements=0,
                steps=len(steps),
                commits=True,
                makes=True,
            )
            answer = await session.exchange(steps)
            await settle(session, answer, layout, None)
        finally:
            await self._give_back(session)

    def _prepare(self, statement: Any, params: Sequence[object]) -> Call:
        """Check a statement and its parameters before anything is sent."""
        if self._refused is not None:
            raise sql_error(f"agents can't use SQL: {self._refused}", str(statement))
        if is_template(statement):
            if params:
                raise TypeError("a t-string carries its own parameters")
            statement, params = from_template(statement)
        if not isinstance(statement, str):
            raise TypeError(f"a statement is a str, not {type(statement).__name__}")
        guarded = self._guard.check(statement)
        if guarded.parameters != len(params):
            quoted = "a placeholder inside quotes is text: write '%' || $1 || '%'"
            raise sql_error(
                f"the statement's placeholders go up to ${guarded.parameters}, but "
                f"{len(params)} parameters were given",
                statement,
                hint=quoted if len(params) > guarded.parameters else None,
            )
        return Call(guarded, params)

    async def _take(self) -> Session:
        if self._refused is not None:
            raise self._refused
        try:
            connection = await self._pool.getconn()
        except PoolTimeout as error:
            raise Unavailable(
                "no database connection for agent SQL came free in "
                f"{self._settings.wait_seconds:g} s"
            ) from error
        session = Session(connection)
        session.limit(self._settings.transaction_seconds)
        return session

    async def _give_back(self, session: Session) -> None:
        session.unlimit()
        session.require_idle()
        if session.broken:
            await session.connection.close()
        await self._pool.putconn(session.connection)


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.execute(PREPARE_OPENING)
