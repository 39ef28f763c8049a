"""An explicit transaction: a critical section whose writes commit together or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable.domain.errors import DurableError, SqlError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from durable.domain.ports import SqlTransaction
    from durable.gates.input_gate import InputGate
    from durable.objects.write_back import WriteBack


class NestedTransaction(DurableError):
    """A transaction of this object is open already."""


class Transaction:
    """``async with storage.transaction():``; see there for the promise.

    Effects (frames, calls) made inside leave after the commit, and never leave if it is
    rolled back. SQL inside opens a database transaction that the commit then closes.
    """

    def __init__(
        self,
        rows: WriteBack,
        gate: InputGate,
        activation: Any,
    ) -> None:
        self._rows = rows
        self._gate = gate
        self._activation = activation
        self._snapshot: object = None
        self.task: asyncio.Task[Any] | None = None
        self.effects: list[Callable[[], object]] = []
        self.sql: SqlTransaction | None = None

    async def __aenter__(self) -> Transaction:
        if self._activation.open_transaction is not None:
            raise NestedTransaction("a transaction of this object is open already")
        self._gate.lock()
        self._snapshot = self._rows.begin()
        self.task = asyncio.current_task()
        self._activation.open_transaction = self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                await self._roll_back()
            elif self.sql is not None:
                await self._commit_with_sql(self.sql)
            else:
                self._end()
        finally:
            self._gate.unlock()

    def _end(self) -> None:
        self._activation.open_transaction = None
        self._rows.end()
        for effect in self.effects:
            self._activation.emit(effect)

    async def _roll_back(self) -> None:
        self._activation.open_transaction = None
        self._rows.roll_back(self._snapshot)
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
        self._activation.open_transaction = None
        self._rows.joined_committed()
        for effect in self.effects:
            self._activation.emit(effect)
