"""One connection for agent SQL: a list of steps goes out, one result each comes back.

All steps of an exchange travel as one pipeline with one Sync at its end: one round
trip. After the first step that fails Postgres skips the others, COMMIT included. Every
result is paired with its step here; when that can't be done, or the connection isn't
idle when it should be, the session is broken and its connection is closed, never used
again: a pipeline that lost count hands the next user the wrong answer.

This speaks to libpq through ``psycopg.generators`` rather than through cursors, since
those raise the first error and don't say which step it belongs to (and cost 60 % more).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.adapt import Transformer as NewTransformer
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from durable.store.sql_errors import sqlstate

log = logging.getLogger(__name__)

_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY)
_COPYING = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


@dataclass(frozen=True, slots=True)
class Step:
    """One statement with its parameters as they are sent ($1 … placeholders).

    ``prepared``: ``sql`` is the name of a statement that the connection has prepared.
    """

    sql: bytes
    values: Sequence[bytes | None] | None = None
    types: Sequence[int] | None = None
    formats: Sequence[int] | None = None
    prepared: bool = False


@dataclass(slots=True)
class Answer:
    """The results of an exchange, in the order of its steps.

    ``failed`` is the step that Postgres refused: no later one was executed. ``lost``:
    the connection broke, and there may be fewer results than steps; unless ``failed``
    says otherwise, the steps without a result may have been executed or not.
    """

    results: list[PGresult] = field(default_factory=list)
    failed: int | None = None
    lost: BaseException | None = None

    def done(self, step: int) -> bool:
        """Whether this step was executed, for certain."""
        return step < len(self.results) and self.results[step].status in _DONE


class Session:
    """A connection for one user at a time."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.broken = False
        self.overdue = False
        self._alarm: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> None:
        """Cut the connection after so long, whatever it is doing then."""
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._cut)

    def unlimit(self) -> None:
        """The user is done in time."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def transformer(self) -> Transformer:
        """Loads the values of results as RESULT_ADAPTERS says."""
        transformer: Transformer = NewTransformer(self.connection)
        return transformer

    def step(self, sql: bytes, params: Sequence[object] = ()) -> Step:
        """A step of our own, its parameters adapted by psycopg."""
        if not params:
            return Step(sql)
        transformer = self.transformer()
        values = transformer.dump_sequence(params, [PyFormat.AUTO] * len(params))
        sent = [None if value is None else bytes(value) for value in values]
        return Step(sql, sent, transformer.types, transformer.formats)

    async def exchange(self, steps: Sequence[Step]) -> Answer:
        """Send all steps, get all results: one round trip."""
        answer = Answer()
        try:
            await self.connection.wait(self._pipeline(steps, answer))
        except (psycopg.Error, OSError) as error:
            self._lose(answer, error)
            return answer
        except BaseException:
            # Cancelled in the middle: what was executed isn't known.
            self.broken = True
            raise
        answer.failed = _first_failure(answer.results)
        if answer.failed is None and any(r.status not in _DONE for r in answer.results):
            self._lose(answer, psycopg.OperationalError("no answer from Postgres"))
        return answer

    async def roll_back(self) -> None:
        """End a failed transaction; a session that won't end it is broken."""
        if not self.broken:
            await self.exchange([Step(b"ROLLBACK")])
            self.require_idle()

    def require_idle(self) -> None:
        """Outside a transaction, or broken."""
        if self.connection.pgconn.transaction_status != TransactionStatus.IDLE:
            self.broken = True

    def in_transaction(self) -> bool:
        """In a transaction, be it a failed one."""
        return self.connection.pgconn.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    def _pipeline(
        self, steps: Sequence[Step], answer: Answer
    ) -> Generator[Any, Any, None]:
        pgconn = self.connection.pgconn
        pgconn.enter_pipeline_mode()
        for s in steps:
            if s.prepared:
                pgconn.send_query_prepared(s.sql, s.values)
            else:
                pgconn.send_query_params(s.sql, s.values, s.types, s.formats)
        pgconn.pipeline_sync()
        # Also reads while Postgres is too busy answering to take in more.
        yield from send(pgconn)
        while True:
            fetched = yield from fetch_many(pgconn)
            if len(fetched) != 1:
                raise psycopg.OperationalError("a statement without just one result")
            if fetched[0].status == ExecStatus.PIPELINE_SYNC:
                break
            if fetched[0].status in _COPYING:
                # libpq says the same again and again, and never waits.
                raise psycopg.OperationalError("COPY can't be a part of a pipeline")
            answer.results.append(fetched[0])
        if len(answer.results) != len(steps):
            raise psycopg.OperationalError("results and statements don't pair up")
        pgconn.exit_pipeline_mode()

    def _lose(self, answer: Answer, error: BaseException) -> None:
        self.broken = True
        answer.lost = error
        answer.failed = _first_failure(answer.results)

    def _cut(self) -> None:
        self.overdue = True
        self.broken = True
        log.warning(
            "agent SQL took too long: the connection is cut",
            extra={"backend": self.connection.pgconn.backend_pid},
        )
        # Shut down, not closed: whoever waits for this socket wakes and sees its end.
        # The server ends the transaction when it notices the same.
        try:
            with socket.socket(fileno=os.dup(self.connection.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error) as error:
            log.info("the connection was gone already", extra={"reason": str(error)})


def _first_failure(results: Sequence[PGresult]) -> int | None:
    """The step that Postgres itself refused; libpq's own errors carry no code."""
    for number, result in enumerate(results):
        if result.status not in _DONE:
            return None if sqlstate(result) is None else number
    return None
