"""A transaction of one agent: its statements, its write set, one COMMIT."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from durable.domain.errors import SqlError
from durable.domain.sql_result import SqlResult
from durable.store.sql_errors import TYPE_MISMATCHES
from durable.store.sql_guard import Guarded
from durable.store.sql_outcome import Layout, RoleMissingError, no_way_in, settle
from durable.store.sql_session import Answer, Session, Step
from durable.store.sql_steps import (
    BACK_TO_SAVEPOINT,
    RELEASE,
    SAVEPOINT,
    closing,
    opening,
    schema_of,
)
from durable.store.sql_values import (
    Bound,
    ReadingMemory,
    column_names,
    load_native_rows,
    load_rows,
)

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from durable.domain.ports import SqlTarget
    from durable.domain.writes import WriteSet

_T = TypeVar("_T")

log = logging.getLogger(__name__)

# As it is; with the role repaired; on two other sessions.
_ATTEMPTS = 4

_COUNTED = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")


@dataclass(frozen=True, slots=True)
class Call:
    """A statement that passed the guard, with its parameters."""

    guarded: Guarded
    params: Sequence[object]

    def steps(self, bound: Bound) -> list[Step]:
        """Its statements; the parameters belong to the last one."""
        texts = [s.text.encode() for s in self.guarded.statements]
        last = Step(texts[-1], bound.values, bound.types, bound.formats)
        return [*(Step(text) for text in texts[:-1]), last]


@dataclass(frozen=True, slots=True)
class NativeResult:
    """Rows with Python's own types; a column is its name and its type's number."""

    columns: list[tuple[str, int]]
    rows: list[tuple[Any, ...]]
    rowcount: int


class AgentTransaction:
    """From the first statement to COMMIT, on one session, under the fence.

    A statement that fails is undone by itself, as in SQLite: whoever catches its
    SqlError can go on. Every end gives the session back; later calls raise.
    """

    def __init__(
        self,
        session: Session,
        target: SqlTarget,
        role_prefix: str,
        *,
        prepare: Callable[[Any, Sequence[object]], Call],
        memory: ReadingMemory,
        take: Callable[[], Awaitable[Session]],
        release: Callable[[Session], Awaitable[None]],
    ) -> None:
        self._session = session
        self._take = take
        self._target = target
        self._role_prefix = role_prefix
        self._prepare = prepare
        self._memory = memory
        self._release = release
        self._opened = False
        self._ended = False
        self._make = target.schema is None
        # One exchange after the other, also of tasks that were started inside.
        self._turn = asyncio.Lock()

    @property
    def schema(self) -> str:
        """The agent's schema."""
        return schema_of(self._target)

    @property
    def ended(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._ended

    async def run(self, statement: Any, params: Sequence[object] = ()) -> SqlResult:
        """Run a statement; nothing is committed yet."""
        call = self._prepare(statement, params)
        async with self._turn:
            self._require_open()
            results = await self._try_readings(call, self._run_inside)
        return self._result(results)

    async def run_native(
        self, statement: str, params: Sequence[object]
    ) -> NativeResult:
        """Run a statement with parameters and results as psycopg has them."""
        call = self._prepare(statement, params)
        step = self._session.step(b"", params)
        bound = Bound(
            list(step.values or ()), list(step.types or ()), list(step.formats or ())
        )
        async with self._turn:
            self._require_open()
            steps = call.steps(bound)
            results = await self._with_role(lambda: self._run_inside(call, steps))
        last = results[-1]
        kinds = [last.ftype(i) for i in range(last.nfields)]
        return NativeResult(
            list(zip(column_names(last), kinds, strict=True)),
            load_native_rows(last),
            -1 if last.command_tuples is None else last.command_tuples,
        )

    async def savepoint(self, command: bytes) -> None:
        """Set, release or go back to a savepoint of the caller's."""
        async with self._turn:
            if self._session.broken:
                return  # nothing of it will be committed
            self._require_open()
            await self._with_role(lambda: self._savepoint(command))

    def orm(self) -> AbstractAsyncContextManager[Any]:
        """A SQLAlchemy session in this transaction."""
        # Only those who use it pay for loading it.
        from durable.store.sql_orm import orm_session

        return orm_session(self)

    async def run_and_commit(self, call: Call, writes: WriteSet | None) -> SqlResult:
        """Run a statement and commit it with the write set: one round trip."""

        async def send(call: Call, statements: list[Step]) -> SqlResult:
            return await self._run_whole(call, statements, writes)

        try:
            return await self._try_readings(call, send)
        finally:
            await self._end()

    async def commit(self, writes: WriteSet | None = None) -> None:
        """Commit what was run, with the write set as the last step."""
        self._require_open()
        try:
            await self._with_role(lambda: self._commit(writes))
        finally:
            await self._end()

    async def roll_back(self) -> None:
        """Undo all; safe to call again, and after a commit that failed."""
        if self._ended:
            return
        try:
            if self._opened:
                await self._session.roll_back()
        finally:
            await self._end()

    async def _try_readings(
        self, call: Call, send: Callable[[Call, list[Step]], Awaitable[_T]]
    ) -> _T:
        """Offer the parameters in one way after the other, until the types suit."""
        first: SqlError | None = None
        query = call.guarded.query
        for reading in self._memory.readings(query, call.params):
            steps = call.steps(reading.bound)
            try:
                result = await self._with_role(lambda: send(call, steps))  # noqa: B023
            except SqlError as error:
                code = error.sqlstate or ""
                # Class 22: a value that isn't of the type which Postgres chose.
                wrong = reading.number > 0 and code.startswith("22")
                if code not in TYPE_MISMATCHES and not wrong:
                    raise
                first = first or error
                continue
            self._memory.remember(reading)
            return result
        assert first is not None
        raise first

    async def _with_role(self, send: Callable[[], Awaitable[_T]]) -> _T:
        """Try again where the role isn't known: made or repaired, then elsewhere.

        Postgres keeps a list of a login's roles in each backend. A change that comes
        while the list is being made is lost on it (seen on 18 with agents that began at
        the same moment); only another backend helps then.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return await send()
            except RoleMissingError as error:
                if attempt == _ATTEMPTS - 1:
                    raise no_way_in(str(error), error.query, error.code) from error
                if attempt > 0:
                    await self._renew()
                self._make = True  # the first time's way also repairs
        raise AssertionError("a loop without an end")

    async def _renew(self) -> None:
        """Go on with another session: nothing was done on this one."""
        log.warning("a database session doesn't know an agent's role: it is closed")
        self._session.broken = True
        self._ended = True  # nothing is ours until there is another one
        await self._release(self._session)
        self._session = await self._take()
        self._ended = False

    async def _run_whole(
        self, call: Call, statements: list[Step], writes: WriteSet | None
    ) -> SqlResult:
        before = self._opening()
        after = closing(self._session, self._target, writes)
        answer = await self._settled(before, statements, after, call, commits=True)
        return self._result(_own(answer, len(before), len(statements)))

    async def _run_inside(self, call: Call, statements: list[Step]) -> list[PGresult]:
        before = [*([] if self._opened else self._opening()), SAVEPOINT]
        try:
            answer = await self._settled(
                before, statements, [RELEASE], call, commits=False
            )
        except SqlError:
            # The opening can't raise it here: then nothing is open.
            if self._session.in_transaction():
                self._opened = True
                await self._session.exchange([BACK_TO_SAVEPOINT, RELEASE])
            raise
        self._opened = True
        return _own(answer, len(before), len(statements))

    async def _savepoint(self, command: bytes) -> None:
        before = [] if self._opened else self._opening()
        await self._settled(before, [], [Step(command)], None, commits=False)
        self._opened = True

    async def _commit(self, writes: WriteSet | None) -> None:
        if not self._opened and not writes:
            return
        before = [] if self._opened else self._opening()
        after = closing(self._session, self._target, writes)
        await self._settled(before, [], after, None, commits=True)

    async def _settled(
        self,
        before: list[Step],
        statements: list[Step],
        after: list[Step],
        call: Call | None,
        *,
        commits: bool,
    ) -> Answer:
        steps = [*before, *statements, *after]
        layout = Layout(
            opening=len(before),
            statements=len(statements),
            steps=len(steps),
            commits=commits,
            makes=self._make,
        )
        answer = await self._session.exchange(steps)
        await settle(self._session, answer, layout, call.guarded if call else None)
        return answer

    def _opening(self) -> list[Step]:
        return opening(self._session, self._target, self._role_prefix, make=self._make)

    def _result(self, results: list[PGresult]) -> SqlResult:
        written = sum(
            result.command_tuples or 0
            for result in results
            if (result.command_status or b"").startswith(_COUNTED)
        )
        last = results[-1]
        return SqlResult(
            column_names(last),
            load_rows(last, self._session.transformer()),
            rows_written=written,
            schema=schema_of(self._target),
        )

    def _require_open(self) -> None:
        if self._ended:
            raise SqlError("the transaction has ended", query="")

    async def _end(self) -> None:
        if not self._ended:
            self._ended = True
            await self._release(self._session)


def _own(answer: Answer, first: int, count: int) -> list[PGresult]:
    """The results of the agent's own statements."""
    return answer.results[first : first + count]
