"""One life of an object in memory: activate, deliver events, reset or deactivate.

Every event to an object passes here. An event enters at the input gate; what it says
leaves at the output gate. A reset ends the activation at once: its handlers are
cancelled, their callers get the error, and the next event activates anew.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable.domain.activations import ActivationState, step
from durable.domain.errors import (
    Aborted,
    CommitUnknown,
    DurableError,
    ResetError,
    SqlError,
    StartFailed,
    Unavailable,
)
from durable.domain.ports import SqlTarget
from durable.gates.input_gate import InputGate
from durable.gates.output_gate import OutputGate
from durable.gates.task_scope import TaskScope
from durable.objects.awaiting import must_await
from durable.objects.http import aclose
from durable.objects.state import DurableObjectState
from durable.objects.storage import Done
from durable.objects.transaction import Transaction
from durable.objects.websocket import SocketRecord, SocketTable, WebSocket, check_tags
from durable.objects.write_back import WriteBack

if TYPE_CHECKING:
    from durable.domain.ids import DurableObjectId
    from durable.domain.ports import CommitLog, Reader, SqlRunner
    from durable.domain.writes import Claim, ObjectRow
    from durable.objects.durable_object import DurableObject
    from durable.objects.http import Request, Response

log = logging.getLogger(__name__)
RESTARTED = 1012

# The activation whose code runs; calls it makes pass its output gate first.
current_activation: ContextVar[Activation | None] = ContextVar(
    "current_activation", default=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationContext:
    """What every activation of a worker is given."""

    env: Any
    reader: Reader
    sql: SqlRunner
    sockets: SocketTable
    start_timeout: float
    on_gone: Callable[[Activation], None]


class Activation:
    """A live object; see the module's promise."""

    def __init__(
        self,
        object_id: DurableObjectId,
        row: ObjectRow,
        cls: type[DurableObject],
        claim: Claim,
        lane: CommitLog,
        context: ActivationContext,
        props: Any = None,
    ) -> None:
        self.id = object_id
        self.props = props
        self.claim = claim
        self.state = ActivationState.ACTIVATING
        self.input_gate = InputGate()
        self.output_gate = OutputGate(lane)
        self.rows = WriteBack(
            object_id=object_id.value,
            row=row,
            claim=claim,
            log=lane,
            reader=context.reader,
            input_gate=self.input_gate,
            output_gate=self.output_gate,
            on_failure=self.reset,
        )
        self.open_transaction: Transaction | None = None
        # The evictor's count at the last event.
        self.used = 0
        self._cls = cls
        self._row = row
        self._context = context
        self._schema: str | None = None
        self._instance: DurableObject
        self._scope = TaskScope(str(object_id))
        self._running: set[asyncio.Task[Any]] = set()
        self._unstarted = 0
        self._streams = 0
        self._ending = False
        self.input_gate.lock()
        self._scope.start(self._start())

    # --- life

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits: it may be evicted."""
        return (
            not self._running
            and not self._streams
            and not self._scope
            and self.rows.is_idle
            and self.output_gate.is_idle
            and not self.input_gate.waiting
        )

    async def settle(self) -> None:
        """Return when its handlers and background work have ended and all is durable."""
        while not self.is_idle and self.state is not ActivationState.GONE:
            running = [t for t in self._running if not t.done()]
            if running:
                await asyncio.wait(running)
            await self._scope.wait()
            if self.output_gate.broken is None:
                await self.output_gate.wait()
            await asyncio.sleep(0)

    def reset(self, error: Exception) -> None:
        """End this activation because of a failure; its sockets live on.

        A socket with a message that was not acknowledged is closed with 1012, so that
        its client knows.
        """
        if self.state is ActivationState.GONE:
            return
        self._end(error)
        for record in list(self._context.sockets.of(self.id.value)):
            if record.unacknowledged:
                record.unacknowledged = 0
                record.port.close(RESTARTED, "The object was reset")

    def deactivate(self) -> None:
        """End this activation: it was idle, or its shard goes elsewhere."""
        if self.state is not ActivationState.GONE:
            self._end(ResetError("this activation has ended"))

    def end_when_idle(self) -> None:
        """End this activation once the handlers that run now have ended."""
        self._ending = True
        if not self._running:
            self.deactivate()

    def abort(self, reason: str) -> None:
        """The object's own wish to be reset. Raises to end the handler that asks."""
        error = Aborted(reason)
        self.reset(error)
        raise error

    def _end(self, error: Exception) -> None:
        self.state = step(self.state, ActivationState.GONE)
        self._context.on_gone(self)
        for record in self._context.sockets.of(self.id.value):
            record.handle = None
        self.output_gate.break_(error)
        self.input_gate.break_(error)
        for task in tuple(self._running):
            if task is not asyncio.current_task():
                task.cancel()

    async def _start(self) -> None:
        try:
            loaded = await self._context.reader.load(self.claim.shard, self.id.value)
            self.rows.opened(loaded)
            self._schema = loaded.sql_schema
            token = current_activation.set(self)
            try:
                self._instance = self._cls(DurableObjectState(self), self._context.env)
            finally:
                current_activation.reset(token)
        except DurableError as error:
            self.reset(error)
        except Exception as error:  # noqa: BLE001  # the user's constructor
            log.exception("constructor failed", extra={"object": str(self.id)})
            self.reset(self._start_failed(error))
        else:
            if self.state is ActivationState.ACTIVATING:
                self.state = step(self.state, ActivationState.ACTIVE)
                self.input_gate.unlock()

    def _start_failed(self, error: Exception) -> StartFailed:
        failed = StartFailed(f"{self._cls.__name__} did not start: {error}")
        failed.__cause__ = error
        return failed

    # --- events in

    async def run(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Run one event: enter, run, and leave when its effects may.

        Raises:
            Exception: the handler's own, or the one that reset the activation.
        """
        return await self._guard(handler, *args, enter=True)

    async def _guard(
        self, handler: Callable[..., Any], *args: Any, enter: bool = False
    ) -> Any:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        self._running.add(task)
        try:
            if enter:
                await self.input_gate.enter()
            token = current_activation.set(self)
            try:
                result = handler(*args)
                if must_await(result):
                    result = await result
            finally:
                current_activation.reset(token)
                if self.output_gate.broken is None:
                    await self.output_gate.wait()
        except asyncio.CancelledError:
            broken = self.output_gate.broken
            if broken is None:
                raise
            task.uncancel()
            raise broken from None
        finally:
            self._running.discard(task)
            if self._ending and not self._running:
                self.deactivate()
        if self.output_gate.broken is not None and not self._ending:
            raise self.output_gate.broken
        return result

    async def fetch(self, request: Request) -> Response:
        """Deliver an HTTP request; returns the response when it may leave."""
        response: Response = await self.run(self._fetch, request)
        if not isinstance(response.content, bytes) and response.content is not None:
            return response.with_body(self._streamed(response.body))
        return response

    async def _streamed(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        # The body is the object's code: it runs as the object, and each piece waits
        # at the output gate.
        self._streams += 1
        try:
            while True:
                piece = await self.run_again(pieces)
                if piece is None:
                    return
                yield piece
        finally:
            self._streams -= 1
            await aclose(pieces)

    async def run_again(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece of a streamed body, when it may leave; None at its end."""

        async def following() -> bytes | None:
            return await anext(pieces, None)

        piece: bytes | None = await self._guard(following)
        return piece

    def _fetch(self, request: Request) -> Any:
        return self._instance.fetch(request)

    def call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Deliver a call of another object."""
        return self.run(self._call, method, args, kwargs)

    def _call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return self._instance.call_method(method, args, kwargs)

    def socket_message(self, record: SocketRecord, message: str | bytes) -> None:
        """Deliver a client's message; at once if nothing keeps it from entering."""
        if self.input_gate.is_open and not self._unstarted:
            self._deliver_socket(record, "websocket_message", message)
            return
        self._deliver_socket_later(record, "websocket_message", message)

    def socket_closed(
        self, record: SocketRecord, code: int, reason: str, was_clean: bool
    ) -> None:
        """Deliver the end of a client's socket."""
        self._deliver_socket_later(record, "websocket_close", code, reason, was_clean)

    def _deliver_socket(self, record: SocketRecord, hook: str, *args: Any) -> None:
        token = current_activation.set(self)
        try:
            result = getattr(self._instance, hook)(self.websocket(record), *args)
            if result is not None:
                self._acknowledge_after(record, self._started(result))
            elif not self.output_gate.is_idle:
                record.unacknowledged += 1
                self.output_gate.emit(lambda: _acknowledge(record))
        except Exception as error:
            if self.output_gate.broken is None:
                log.exception("socket handler failed", extra={"object": str(self.id)})
            else:
                log.info("socket handler ended with its activation: %s", error)
        finally:
            current_activation.reset(token)

    def _deliver_socket_later(
        self, record: SocketRecord, hook: str, *args: Any
    ) -> None:
        def deliver() -> Any:
            return getattr(self._instance, hook)(self.websocket(record), *args)

        self._acknowledge_after(record, self._entered(deliver))

    def _acknowledge_after(
        self, record: SocketRecord, work: Coroutine[Any, Any, Any]
    ) -> None:
        record.unacknowledged += 1
        self._unstarted += 1

        async def run() -> None:
            try:
                await self.run(lambda: work)
            except Exception as error:  # noqa: BLE001  # the user's handler
                if self.output_gate.broken is None:
                    log.exception(
                        "socket handler failed", extra={"object": str(self.id)}
                    )
                else:
                    log.info("socket handler ended with its activation: %s", error)
            finally:
                work.close()
            if self.output_gate.broken is None:
                _acknowledge(record)

        self._scope.start(run())

    async def _started(self, handler: Awaitable[Any]) -> Any:
        self._unstarted -= 1
        return await handler

    async def _entered(self, deliver: Callable[[], Any]) -> Any:
        self._unstarted -= 1
        result = deliver()
        return await result if must_await(result) else result

    # --- what the object does

    def emit(self, effect: Callable[[], object]) -> None:
        """Let an effect out behind the writes that precede it."""
        transaction = self.open_transaction
        if transaction is not None and asyncio.current_task() is transaction.task:
            transaction.effects.append(effect)
        else:
            self.output_gate.emit(effect)

    def critical_section(self, fn: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
        """Run ``fn`` with the input gate shut; a failure resets the activation."""
        self.input_gate.lock()
        return self._scope.start(self._critical(fn))

    async def _critical(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        limit = self._context.start_timeout
        try:
            async with asyncio.timeout(limit):
                return await fn()
        except TimeoutError:
            self.reset(
                StartFailed(
                    f"{self._cls.__name__} was blocked for over {limit:g} s "
                    "(on_start or block_concurrency_while) and was reset"
                )
            )
        except DurableError as error:
            self.reset(error)
        except Exception as error:  # noqa: BLE001  # the user's code
            log.exception("critical section failed", extra={"object": str(self.id)})
            self.reset(self._start_failed(error))
        finally:
            self.input_gate.unlock()

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Work that holds off eviction and nothing else."""
        self._scope.start(work)

    def transaction(self) -> Transaction:
        """A transaction of this object, to be entered."""
        return Transaction(self.rows, self.input_gate, self)

    async def sql(self, statement: Any, params: Sequence[object]) -> Any:
        """Run a statement in the object's own schema; it commits what is pending too."""
        transaction = self.open_transaction
        if transaction is not None and asyncio.current_task() is transaction.task:
            return await self._sql_in(transaction, statement, params)
        self.input_gate.lock()
        try:
            writes = await self.rows.take_for_sql()
            try:
                result = await self._context.sql.run(
                    self._sql_target(), statement, params, writes
                )
            except (SqlError, Unavailable):
                # Nothing was written: the write set waits for the lane.
                self.rows.put_back()
                raise
            except DurableError as error:
                self.rows.commit_failed(error)
                raise
            except asyncio.CancelledError:
                self.rows.commit_failed(CommitUnknown("a statement was cancelled"))
                raise
            self._schema = self._schema or f"agent_{self.id.value.hex}"
            self.rows.committed()
            return result
        finally:
            self.input_gate.unlock()

    async def _sql_in(
        self, transaction: Transaction, statement: Any, params: Sequence[object]
    ) -> Any:
        if transaction.sql is None:
            await self.rows.take_for_sql()
            try:
                transaction.sql = await self._context.sql.begin(self._sql_target())
            except BaseException:
                self.rows.put_back()
                raise
        result = await transaction.sql.run(statement, params)
        return result

    def _sql_target(self) -> SqlTarget:
        return SqlTarget(self.claim, self.id.value, self._row, self._schema)

    def delete_everything(self) -> Awaitable[None]:
        """Delete all rows of the object, and its schema."""
        self.rows.delete_all_rows()
        if self._schema is None:
            return Done(None)
        return self._scope.start(self._drop_schema())

    async def _drop_schema(self) -> None:
        writes = await self.rows.take_for_sql()
        try:
            await self._context.sql.drop_schema(self._sql_target(), writes)
        except DurableError as error:
            self.rows.commit_failed(error)
            raise
        self._schema = None
        self.rows.committed()

    # --- sockets

    def accept_websocket(
        self, request: Request, tags: Iterable[str], socket_id: str | None
    ) -> WebSocket:
        """See ``ctx.accept_websocket``."""
        port = request.socket_port
        if port is None:
            raise ValueError(
                "this request is no upgrade that can be accepted "
                "(or it was accepted already)"
            )
        request.socket_port = None
        record = SocketRecord(
            socket_id or secrets.token_hex(16),
            port=port,
            url=request.url,
            headers=request.headers,
            tags=check_tags(tags),
        )
        self._context.sockets.add(self.id.value, record)
        port.accepted(self.id, record)
        return self.websocket(record)

    def websocket(self, record: SocketRecord) -> WebSocket:
        """The activation's handle of a socket."""
        handle = record.handle
        if handle is None:
            handle = record.handle = WebSocket(record, self.emit)
        return handle

    def websockets(self) -> list[WebSocket]:
        """All open sockets."""
        return [self.websocket(r) for r in self._context.sockets.of(self.id.value)]


def _acknowledge(record: SocketRecord) -> None:
    if record.unacknowledged:
        record.unacknowledged -= 1
