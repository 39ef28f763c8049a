"""One process's objects: shards, lane, dispatcher, evictor, opened in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.clock import Clock, boottime
from durable.domain.errors import Unavailable
from durable.domain.ids import DurableObjectId
from durable.objects.activation import Activation
from durable.objects.activation_context import ActivationContext
from durable.objects.websocket import SocketTable
from durable.store import registry
from durable.store.database import Database
from durable.store.lane import Lane
from durable.store.reads import Reads
from durable.tasks import TaskScope
from durable.worker.alarm_loop import AHEAD_SECONDS, AlarmLoop, AlarmSources
from durable.worker.dispatcher import Dispatcher, Ownership
from durable.worker.shard_keeper import ShardKeeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.domain.ports import SqlRunner, Timer
    from durable.objects.durable_object import DurableObject

log = logging.getLogger(__name__)

# The evictor looks so many times within the idle time.
EVICTION_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker must be told; durations in seconds."""

    worker_id: UUID
    address: str
    version: str
    dsn: str
    shards: int
    lease: float
    freshness: float
    idle: float
    start_timeout: float
    drain: float
    max_waiting: int


class Worker:
    """Owns shards and runs their objects; open with ``async with``."""

    def __init__(
        self,
        settings: WorkerSettings,
        database: Database,
        classes: Mapping[int, type[DurableObject]],
        *,
        env: Any,
        sql: SqlRunner,
        timer: Timer,
        clock: Clock = boottime,
    ) -> None:
        self.settings = settings
        self.sockets = SocketTable()
        self._database = database
        self._timer = timer
        self._clock = clock
        self._reads = Reads(database)
        self._stack = AsyncExitStack()
        self.shards = ShardKeeper(
            shards=settings.shards,
            owner=settings.worker_id,
            freshness=settings.freshness,
            make_lane=self._make_lane,
            on_lost=self._lane_lost,
            on_claimed=self._claimed,
        )
        self._scope = TaskScope("worker")
        self._alarms = AlarmLoop(self._alarm_sources(classes), clock)
        self.dispatcher = self._make_dispatcher(classes, env, sql)

    def _alarm_sources(self, classes: Container[int]) -> AlarmSources:
        return AlarmSources(
            owned=self.shards.owned_shards,
            hosts=lambda object_id: DurableObjectId(object_id).tag in classes,
            table=lambda: self.shards.lane,
            run=lambda object_id, alarm: self.dispatcher.alarm(object_id, alarm),
        )

    def _make_dispatcher(
        self, classes: Mapping[int, type[DurableObject]], env: Any, sql: SqlRunner
    ) -> Dispatcher:
        settings = self.settings

        def make_context(on_gone: Callable[[Activation], None]) -> ActivationContext:
            return ActivationContext(
                env=env,
                reader=self._reads,
                sql=sql,
                sockets=self.sockets,
                start_timeout=settings.start_timeout,
                on_gone=on_gone,
            )

        return Dispatcher(
            classes=classes,
            ownership=Ownership(
                shards=settings.shards,
                claim_of=self.shards.claim_of,
                lane=lambda: self.shards.lane,
            ),
            make_context=make_context,
            max_waiting=settings.max_waiting,
        )

    async def __aenter__(self) -> Worker:
        settings = self.settings
        async with AsyncExitStack() as stack:
            await registry.join(
                self._database, settings.worker_id, settings.address, settings.version
            )
            stack.push_async_callback(self._leave)
            stack.push_async_callback(self._reads.close)
            await self.shards.start()
            stack.push_async_callback(self.shards.close)
            stack.push_async_callback(self._alarms.close)
            stack.push_async_callback(self._scope.close)
            self._timer.every(settings.idle / EVICTION_ROUNDS, self._evict)
            self._timer.every(AHEAD_SECONDS / 2, self._alarms.poll)
            self._timer.every(settings.lease, self._beat)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._drain()
        await self._stack.aclose()

    async def _drain(self) -> None:
        """Let running handlers end, flush, and end every activation."""
        self.dispatcher.stop_activating()
        self.shards.stop_claiming()
        self._alarms.stop()
        try:
            async with asyncio.timeout(self.settings.drain):
                for activation in self.dispatcher.activations():
                    await activation.settle()
        except TimeoutError:
            log.warning("handlers outlasted the drain and were cancelled")
        self.dispatcher.reset_all(Unavailable("this worker is shutting down"))

    async def _leave(self) -> None:
        try:
            await registry.leave(self._database, self.settings.worker_id)
        except Unavailable as error:
            log.warning("worker row not removed: %s", error)

    async def _evict(self) -> None:
        self.dispatcher.evict_idle(EVICTION_ROUNDS)

    async def _beat(self) -> None:
        try:
            await registry.beat(self._database, self.settings.worker_id)
        except Unavailable as error:
            log.warning("no beat: %s", error)

    def _make_lane(self, on_lost: Callable[[Exception], None]) -> Lane:
        settings = self.settings
        return Lane(
            settings.dsn,
            self._database,
            lease=settings.lease,
            freshness=settings.freshness,
            clock=self._clock,
            name=f"durable lane {settings.worker_id.hex[:12]}",
            on_lost=on_lost,
            on_alarm=self._alarms.changed,
        )

    def _claimed(self) -> None:
        # What was due while nobody owned these shards fires now.
        self._scope.start(self._alarms.poll())

    def _lane_lost(self, error: Exception) -> None:
        self.dispatcher.reset_all(error)
