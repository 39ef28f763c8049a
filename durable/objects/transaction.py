"""An explicit transaction: a critical section whose writes commit together or not."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from durable.domain.errors import (
    CommitUnknown,
    DurableError,
    NestedTransaction,
    ResetError,
    SqlError,
)
from durable.objects.call_chain import blocking
from durable.objects.write_back import current_transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from durable.domain.ports import SqlTransaction
    from durable.domain.writes import WriteSet
    from durable.gates.input_gate import InputGate
    from durable.objects.write_back import WriteBack


class Transaction:
    """``async with storage.transaction():``; see there for the promise.

    Frames sent inside leave after the commit, and never leave if it is rolled back;
    calls are made at once. SQL inside opens a database transaction that the commit then
    closes. One that is open for too long (it may wait for an object that waits for this
    one) resets the object.
    """

    def __init__(
        self,
        rows: WriteBack,
        gate: InputGate,
        activation: Any,
        limit: float,
    ) -> None:
        self._rows = rows
        self._gate = gate
        self._activation = activation
        self._limit = limit
        self._overdue: asyncio.TimerHandle | None = None
        self._blocking = ExitStack()
        self._token: Token[WriteSet | None] | None = None
        # Statements run one after another, also those of tasks started inside.
        self.one_statement = asyncio.Lock()
        self.effects: list[Callable[[], object]] = []
        self.sql: SqlTransaction | None = None

    async def __aenter__(self) -> Transaction:
        if self._activation.open_transaction is not None:
            raise NestedTransaction("a transaction of this object is open already")
        self._gate.lock()
        self._blocking.enter_context(blocking(self._rows.object_id))
        self._token = current_transaction.set(self._rows.begin())
        self._overdue = asyncio.get_running_loop().call_later(
            self._limit, self._too_long
        )
        self._activation.open_transaction = self
        return self

    def rollback(self) -> None:
        """Keep nothing of the block, without an exception.

        What the block writes after this raises ``TransactionEnded``.
        """
        self._rows.rolled_back = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None  # __aenter__ has set both
        assert self._overdue is not None
        current_transaction.reset(self._token)
        self._blocking.close()
        try:
            if error is not None or self._rows.rolled_back:
                await self._roll_back()
            elif self.sql is not None:
                await self._commit_with_sql(self.sql)
            else:
                self._end()
        finally:
            self._overdue.cancel()
            self._gate.unlock()

    def _too_long(self) -> None:
        text = f"a transaction was open for over {self._limit:g} s"
        self._activation.reset(ResetError(text))

    def _end(self) -> None:
        self._activation.open_transaction = None
        self._rows.end_transaction()
        for effect in self.effects:
            self._activation.emit(effect)

    async def _roll_back(self) -> None:
        self._activation.open_transaction = None
        self._rows.roll_back()
        if self.sql is not None:
            try:
                await self.sql.roll_back()
            finally:
                self._rows.put_back()

    async def _commit_with_sql(self, sql: SqlTransaction) -> None:
        try:
            await sql.commit(self._rows.joined_writes())
        except SqlError:
            # Refused at COMMIT (a deferred constraint): nothing of it was written.
            await self._roll_back()
            raise
        except DurableError as error:
            self._activation.open_transaction = None
            self._rows.commit_failed(error)
            raise
        except BaseException:
            self._activation.open_transaction = None
            self._rows.commit_failed(CommitUnknown("a transaction was cancelled"))
            raise
        self._activation.open_transaction = None
        self._rows.joined_committed()
        for effect in self.effects:
            self._activation.emit(effect)
