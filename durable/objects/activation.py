"""One life of an object in memory: activate, deliver events, reset or deactivate.

Every event to an object passes here. An event enters at the input gate; what it says
leaves at the output gate. A reset ends the activation at once: its handlers are
cancelled, their callers get the error, and the next event activates anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.domain.activations import ActivationState, step
from durable.domain.errors import (
    Aborted,
    DurableError,
    ResetError,
    Unavailable,
    ValueRefused,
)
from durable.domain.ids import DurableObjectId
from durable.domain.ports import NO_OPTIONS, SocketOptions
from durable.domain.writes import ObjectRow
from durable.gates.input_gate import InputGate
from durable.gates.output_gate import OutputGate
from durable.objects.activation_context import ActivationContext
from durable.objects.awaiting import must_await
from durable.objects.critical_section import CriticalSections
from durable.objects.durable_object import DurableObject
from durable.objects.object_sql import ObjectSql
from durable.objects.socket_events import SocketEvents
from durable.objects.state import DurableObjectState
from durable.objects.storage import Done
from durable.objects.streams import Streams, is_stream
from durable.objects.transaction import Transaction
from durable.objects.websocket import SocketRecord, WebSocket, record_of
from durable.objects.write_back import WriteBack
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.alarms import AlarmInfo
    from durable.domain.ports import CommitLog
    from durable.domain.writes import Claim
    from durable.objects.http import Request, Response

log = logging.getLogger(__name__)

# The activation whose code runs; calls it makes pass its output gate first.
current_activation: ContextVar[Activation | None] = ContextVar(
    "current_activation", default=None
)


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
        before: WriteBack | None = None,
    ) -> None:
        self.id = object_id
        self.props = props
        self.claim = claim
        self.state = ActivationState.ACTIVATING
        self.input_gate = InputGate()
        self.output_gate = OutputGate(lane, context.meter.gate_waits)
        self.scope = TaskScope(str(object_id))
        self.rows = WriteBack(
            object_id=object_id.value,
            row=row,
            claim=claim,
            log=lane,
            reader=context.reader,
            input_gate=self.input_gate,
            output_gate=self.output_gate,
            budget=context.budget,
            max_value_bytes=context.max_value_bytes,
            on_failure=self.reset,
            start=self.scope.start,
        )
        self.open_transaction: Transaction | None = None
        # The evictor's count at the last event.
        self.used = 0
        self.socket_events = SocketEvents(self)
        self.cls = cls
        self._context = context
        self.critical = CriticalSections(self, cls.__name__, context.start_timeout)
        self.object_sql = ObjectSql(self.rows, self.input_gate, context.sql)
        self._instance: DurableObject
        # The tasks in which its handlers run.
        self.running: set[asyncio.Task[Any]] = set()
        self._streams = Streams(self.output_gate, self._guard)
        self._ending = False
        # Until it has ended an event where an owner has fallen.
        self._on_trial = False
        self.input_gate.lock()
        self.scope.start(self._start(before))

    # --- life

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits: it may be evicted."""
        return (
            not self.running
            and not self._streams.open
            and not self.scope
            and self.is_settled
            and not self.input_gate.waiting
        )

    @property
    def is_settled(self) -> bool:
        """Whether all that it wrote is durable and all that it said has left."""
        return self.rows.is_idle and self.output_gate.is_idle

    async def settle(self) -> None:
        """Return when all its work has ended and all it wrote is durable."""
        while not self.is_idle and self.state is not ActivationState.GONE:
            work = {t for t in self.running if not t.done()} | self._streams.open
            if work:
                await asyncio.wait(work)
            await self.scope.wait()
            # A reset ends the waiting; who asked for the work hears of it.
            with contextlib.suppress(DurableError):
                await self.rows.sync()
            await asyncio.sleep(0)

    def reset(self, error: Exception) -> None:
        """End this activation because of a failure; its sockets live on.

        A socket with a message that was not acknowledged is closed with 1012, so that
        its client knows.
        """
        if self.state is ActivationState.GONE:
            return
        self._end(error)
        self.socket_events.reset(self._context.sockets.of(self.id.value))

    def deactivate(self) -> None:
        """End this activation: it was idle, or its shard goes elsewhere."""
        if self.state is not ActivationState.GONE:
            self._end(ResetError("this activation has ended"))

    def end_when_idle(self) -> None:
        """End this activation once the handlers that run now have ended."""
        self._ending = True
        if not self.running:
            self.deactivate()

    def abort(self, reason: str) -> None:
        """The object's own wish to be reset. Raises to end the handler that asks."""
        error = Aborted(reason)
        self.reset(error)
        raise error

    def _end(self, error: Exception) -> None:
        self.state = step(self.state, ActivationState.GONE)
        self.end_trial()
        self._context.on_gone(self)
        for record in self._context.sockets.of(self.id.value):
            record.handle = None
        self.output_gate.break_(error)
        self.input_gate.break_(error)
        self.rows.end()
        for task in tuple(self.running):
            if task is not asyncio.current_task():
                task.cancel()
        self.scope.cancel_others()

    def end_trial(self) -> None:
        """It has ended an event where an owner fell, or got as far as to ``sync``."""
        if self._on_trial:
            self._on_trial = False
            self._context.trials.end(self.claim, self.id.value)

    async def _start(self, before: WriteBack | None) -> None:
        try:
            if before is not None:
                await self._outwait(before)
            loaded = await self._context.reader.load(self.claim.shard, self.id.value)
            self.rows.opened(loaded)
            self.object_sql.schema = loaded.sql_schema
            trials = self._context.trials
            self._on_trial = await trials.begin(self.claim, self.id.value, loaded.wakes)
            if self.id.name is None and loaded.name is not None:
                # Woken by its id alone: the stored name is the object's.
                self.id = DurableObjectId(self.id.value, loaded.name)
                self.rows.row = ObjectRow(self.id.tag, loaded.name)
            for record in self._context.sockets.of(self.id.value):
                self.socket_events.options = record.options
            token = current_activation.set(self)
            try:
                self._instance = self.cls(DurableObjectState(self), self._context.env)
            finally:
                current_activation.reset(token)
        except DurableError as error:
            self.reset(error)
        except Exception as error:  # the user's constructor
            log.exception("constructor failed", extra={"object": str(self.id)})
            self.reset(self.critical.start_failed(error))
        else:
            if self.state is ActivationState.ACTIVATING:
                self.state = step(self.state, ActivationState.ACTIVE)
                self.input_gate.unlock(0)

    async def _outwait(self, before: WriteBack) -> None:
        # What the last activation handed over may still land: read after that.
        try:
            async with asyncio.timeout(self._context.start_timeout):
                await before.outwait()
        except TimeoutError:
            raise Unavailable("an earlier commit has not ended yet") from None

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
        self.running.add(task)
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
        except Exception as error:
            broken = self.output_gate.broken
            if broken is None or broken is error:
                raise
            # What the handler says of it matters less than that all of it is lost.
            raise broken from error
        finally:
            self.running.discard(task)
            self.end_trial()
            if self._ending and not self.running:
                self.deactivate()
        if self.output_gate.broken is not None and not self._ending:
            raise self.output_gate.broken
        return result

    async def run_last(self, reason: str) -> None:
        """Run the hook of an activation that is about to end."""
        await self.run(lambda: self._instance.on_deactivate(reason))

    async def fetch(self, request: Request) -> Response:
        """Deliver an HTTP request; returns the response when it may leave."""
        response: Response = await self.run(lambda: self._instance.fetch(request))
        if not isinstance(response.content, bytes) and response.content is not None:
            return response.with_body(self._streams.pieces(response.body))
        return response

    @property
    def has_alarm_hook(self) -> bool:
        """Whether the class can be woken by an alarm."""
        return self.cls.alarm is not DurableObject.alarm

    def alarm_now(self, info: AlarmInfo) -> Any:
        """Call the alarm hook; the caller has entered."""
        return self._instance.fire_alarm(info)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Deliver a call of another object."""
        result = await self.run(
            lambda: self._instance.call_method(method, args, kwargs)
        )
        return self._streams.pieces(result) if is_stream(result) else result

    def enter_now(self, hook: str, record: SocketRecord, *args: Any) -> Any:
        """Call a socket hook; the caller has seen that it may enter."""
        token = current_activation.set(self)
        try:
            return getattr(self._instance, hook)(self.websocket(record), *args)
        finally:
            current_activation.reset(token)

    # --- what the object does

    def emit(self, effect: Callable[[], object]) -> None:
        """Let an effect out behind the writes that precede it."""
        transaction = self.open_transaction
        if transaction is not None and self.rows.is_inside:
            transaction.effects.append(effect)
        else:
            self.output_gate.emit(effect)

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Work that holds off eviction and nothing else."""
        if self.state is ActivationState.GONE:
            work.close()
            return
        self.scope.start(work)

    def transaction(self) -> Transaction:
        """A transaction of this object, to be entered."""
        limit = self._context.start_timeout
        return Transaction(self.rows, self.input_gate, self, limit)

    async def sql(self, statement: Any, params: Sequence[object]) -> Any:
        """Run a statement in the object's own schema; what is pending goes along."""
        transaction = self.open_transaction
        if transaction is not None and self.rows.is_inside:
            return await self.object_sql.run_in(transaction, statement, params)
        return await self.object_sql.run(statement, params)

    def delete_everything(self) -> Awaitable[None]:
        """Delete all rows of the object, and its schema."""
        if self.rows.open_transaction is not None:
            raise ValueRefused("delete_all() can't run while a transaction is open")
        if not self.object_sql.was_used:
            self.rows.delete_all_rows()
            return Done(None)
        self.rows.reserve()
        self.rows.delete_all_rows()
        self.input_gate.lock()
        dropping = self.scope.start(self.object_sql.drop())
        dropping.add_done_callback(lambda _: self.input_gate.unlock())
        return asyncio.shield(dropping)

    # --- sockets

    def accept_websocket(
        self, request: Request, tags: Iterable[str], socket_id: str | None
    ) -> WebSocket:
        """See ``ctx.accept_websocket``."""
        record = record_of(request, tags, socket_id)
        record.options = self.socket_events.options
        self._context.sockets.add(self.id.value, record)
        record.port.accepted(self.id, record)
        if record.tags or record.options is not NO_OPTIONS:
            self.emit(lambda: record.port.keep(record.kept))
        return self.websocket(record)

    def websocket(self, record: SocketRecord) -> WebSocket:
        """The activation's handle of a socket."""
        handle = record.handle
        if handle is None:
            handle = record.handle = WebSocket(record, self.emit)
        return handle

    def set_socket_options(self, options: SocketOptions) -> None:
        """What holds for all sockets, open ones and those to come."""
        self.socket_events.options = options
        for record in self._context.sockets.of(self.id.value):
            record.options = options
            self.emit(partial(record.port.keep, record.kept))

    def websockets(self) -> list[WebSocket]:
        """All open sockets."""
        return [self.websocket(r) for r in self._context.sockets.of(self.id.value)]
