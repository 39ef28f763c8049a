"""An object's SQL: in its own schema, committed with what was written before.

The statement goes off the lane, with the pending write set; the lane gets nothing of
this object meanwhile. A statement that fails was rolled back: the write set waits on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from durable.domain.errors import CommitUnknown, DurableError, SqlError, Unavailable
from durable.domain.ports import SqlTarget

if TYPE_CHECKING:
    from durable.domain.ports import SqlRunner, SqlTransaction
    from durable.domain.sql_result import SqlResult
    from durable.gates.input_gate import InputGate
    from durable.objects.activation import Activation
    from durable.objects.transaction import Transaction
    from durable.objects.write_back import WriteBack


class ObjectSql:
    """Runs the statements of one activation."""

    def __init__(self, rows: WriteBack, gate: InputGate, runner: SqlRunner) -> None:
        self._rows = rows
        self._gate = gate
        self._runner = runner
        # The object's schema; None until it has issued SQL.
        self.schema: str | None = None
        self._issued = False

    @property
    def was_used(self) -> bool:
        """Whether there is a schema, or may be one soon."""
        return self.schema is not None or self._issued

    async def run(self, statement: Any, params: Sequence[object]) -> SqlResult:
        """Run a statement in a transaction of its own.

        Raises:
            SqlError: nothing was written.
            DurableError: the activation was reset.
        """
        self._gate.lock()
        self._issued = True
        try:
            self._rows.reserve()
            writes = await self._rows.take_for_sql()
            result: SqlResult = await self._committing(
                self._runner.run(self._target(), statement, params, writes)
            )
            self.schema = result.schema
            self._rows.committed()
            return result
        finally:
            self._gate.unlock()

    async def run_in(
        self, transaction: Transaction, statement: Any, params: Sequence[object]
    ) -> SqlResult:
        """Run a statement in an open transaction, which its first statement begins."""
        async with transaction.one_statement:
            sql = await self._begun(transaction)
            result = await sql.run(statement, params)
        self.schema = result.schema
        return result

    @asynccontextmanager
    async def orm(self, activation: Activation) -> AsyncIterator[Any]:
        """A SQLAlchemy session in the open transaction, or in one of its own."""
        open_one = activation.open_transaction
        if open_one is not None and self._rows.is_inside:
            async with self._session_in(open_one) as session:
                yield session
            return
        async with (
            activation.transaction() as transaction,
            self._session_in(transaction) as session,
        ):
            yield session

    @asynccontextmanager
    async def _session_in(self, transaction: Transaction) -> AsyncIterator[Any]:
        async with transaction.one_statement:
            sql = await self._begun(transaction)
        async with sql.orm() as session:
            yield session
        self.schema = sql.schema

    async def _begun(self, transaction: Transaction) -> SqlTransaction:
        self._rows.writes_here()  # raises if it was rolled back
        self._issued = True
        if transaction.sql is None:
            self._rows.reserve()
            await self._rows.take_for_sql()
            try:
                transaction.sql = await self._runner.begin(self._target())
            except BaseException:
                self._rows.put_back()
                raise
        return transaction.sql

    async def drop(self) -> None:
        """Drop the schema, together with what was reserved: both, or the reset."""
        writes = await self._rows.take_for_sql()
        try:
            await self._runner.drop_schema(self._target(), writes)
        except BaseException as error:
            self._rows.commit_failed(_outcome(error))
            raise
        self.schema = None
        self._issued = False
        self._rows.committed()

    async def _committing(self, work: Any) -> Any:
        try:
            return await work
        except (SqlError, Unavailable, TypeError):
            # TypeError: a parameter that can't be one. Nothing was written.
            self._rows.put_back()
            raise
        except BaseException as error:
            self._rows.commit_failed(_outcome(error))
            raise

    def _target(self) -> SqlTarget:
        rows = self._rows
        return SqlTarget(rows.claim, rows.object_id, rows.row, self.schema)


def _outcome(error: BaseException) -> Exception:
    if isinstance(error, DurableError):
        return error
    return CommitUnknown(f"a statement was cut off: {type(error).__name__}")
