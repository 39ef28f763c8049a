"""An agent's SQL: statements by ``sql``, SQLAlchemy by ``orm``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable import DurableObjectState, SqlResult


class SqlMethods:
    """The part of ``Agent`` that speaks SQL."""

    ctx: DurableObjectState

    async def sql(self, statement: Any, *params: object) -> SqlResult:
        """Run a statement in this agent's own Postgres schema; returns its rows.

        The rows are a list of dicts, which also has ``one()``, ``raw()``,
        ``column_names``, ``rows_read`` and ``rows_written``. ``$1``, ``$2`` … in the
        statement are the parameters; of several statements, separated by ``;``, they
        belong to the last one. What was written before is committed with it.

        Raises:
            SqlError: with the statement and the position; nothing was written.
        """
        return await self.ctx.storage.sql(statement, params)

    def orm(self) -> AbstractAsyncContextManager[Any]:
        """``async with self.orm() as session:`` SQLAlchemy in this agent's schema.

        The session is an ``AsyncSession``. What it does, ``self.sql`` inside and what
        the agent writes commit together at the end of the block, or not at all.

        Raises:
            sqlalchemy.exc.DBAPIError: a statement was refused (``__cause__`` says why).
            DurableError: the agent was reset.
        """
        return self.ctx.storage.orm()
