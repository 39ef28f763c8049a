"""One process's objects: shards, lane, dispatcher, evictor, opened in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.clock import Clock, boottime, wall
from durable.domain.errors import Unavailable
from durable.domain.ids import DurableObjectId
from durable.domain.meter import Meter
from durable.domain.placement import Role, WorkerRow
from durable.objects.activation import Activation
from durable.objects.activation_context import ActivationContext
from durable.objects.cache_budget import CacheBudget
from durable.objects.websocket import SocketTable
from durable.store import registry
from durable.store.database import Database
from durable.store.lane import Lane
from durable.store.reads import Reads
from durable.tasks import TaskScope
from durable.worker.alarm_loop import AHEAD_SECONDS, AlarmLoop, AlarmSources
from durable.worker.dispatcher import Dispatcher, Ownership
from durable.worker.lane_seat import LaneSeat
from durable.worker.shard_keeper import ShardKeeper
from durable.worker.trials import WakeTrials

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ports import SqlRunner, Timer
    from durable.domain.writes import Claim
    from durable.objects.durable_object import DurableObject

log = logging.getLogger(__name__)

# How long a drain may wait for its announcement.
NOTICE_SECONDS = 1.0
# The evictor looks so many times within the idle time.
EVICTION_ROUNDS = 5


async def _unprepared(_: Any) -> None:
    """The default of ``before_open`` and ``before_release``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSeams:
    """Who else is to hear of shards: see ``ShardKeeper``."""

    before_open: Callable[[list[Claim]], Awaitable[None]] = _unprepared
    before_release: Callable[[list[int]], Awaitable[None]] = _unprepared
    on_claimed: Callable[[list[int]], None] = lambda _: None
    on_released: Callable[[list[int]], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What objects may keep, in bytes: see ``server.settings``."""

    max_value_bytes: int = 32 << 20
    cache_bytes_per_object: int = 16 << 20
    cache_bytes: int = 256 << 20


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
    memory: Memory = Memory()
    # For placement: see ``durable.domain.placement.WorkerRow``.
    role: Role = "both"
    weight: float = 1.0
    link_address: str | None = None
    labels: tuple[str, ...] = ()


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
        seams: ShardSeams | None = None,
        clock: Clock = boottime,
    ) -> None:
        self.settings = settings
        self.sockets = SocketTable()
        self.meter = Meter()
        self.cache = CacheBudget(
            per_object=settings.memory.cache_bytes_per_object,
            limit=settings.memory.cache_bytes,
        )
        self._database = database
        self._timer = timer
        self._clock = clock
        self._reads = Reads(database)
        self._stack = AsyncExitStack()
        self._crashed = False
        self._scope = TaskScope("worker")
        self._alarms = AlarmLoop(self._alarm_sources(classes), wall.elapsed)
        self._seat = LaneSeat(self._alarms.changed)
        self.shards = self._make_keeper(seams or ShardSeams())
        self._trials = WakeTrials(lambda: self.shards.lane, self.shards.claim_of, clock)
        self.dispatcher = self._make_dispatcher(classes, env, sql)

    def _make_keeper(self, seams: ShardSeams) -> ShardKeeper:
        settings, database = self.settings, self._database

        def claimed(shards: list[int]) -> None:
            # What was due while nobody owned these shards fires now.
            self._scope.start(self._alarms.poll())
            seams.on_claimed(shards)

        return ShardKeeper(
            row=WorkerRow(
                id=settings.worker_id,
                role=settings.role,
                weight=settings.weight,
                shares=settings.link_address is not None,
            ),
            shards=settings.shards,
            lease=settings.lease,
            freshness=settings.freshness,
            make_lane=self._make_lane,
            seat=self._seat,
            objects=lambda: self.dispatcher,
            live=lambda: registry.live(database, settings.lease),
            free=lambda: registry.free_shards(database),
            before_open=seams.before_open,
            before_release=seams.before_release,
            on_claimed=claimed,
            on_released=seams.on_released,
            meter=self.meter,
            clock=self._clock,
        )

    def _alarm_sources(self, classes: Container[int]) -> AlarmSources:
        return AlarmSources(
            owned=lambda: self.shards.owned_shards(),
            hosts=lambda object_id: DurableObjectId(object_id).tag in classes,
            table=lambda: OwnedAlarms(self.shards.lane, self.shards.claim_of),
            run=lambda object_id, alarm: self.dispatcher.alarm(object_id, alarm),
            warm=lambda object_id: self.dispatcher.warm(object_id),
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
                trials=self._trials,
                start_timeout=settings.start_timeout,
                on_gone=on_gone,
                budget=self.cache,
                max_value_bytes=settings.memory.max_value_bytes,
                meter=self.meter,
            )

        return Dispatcher(
            classes=classes,
            ownership=Ownership(
                shards=settings.shards,
                claim_of=self.shards.claim_of,
                lane=lambda: self._seat,
            ),
            make_context=make_context,
            max_waiting=settings.max_waiting,
        )

    async def __aenter__(self) -> Worker:
        settings = self.settings
        async with AsyncExitStack() as stack:
            await registry.join(
                self._database,
                settings.worker_id,
                settings.address,
                settings.version,
                weight=settings.weight,
                role=settings.role,
                link_address=settings.link_address,
                labels=settings.labels,
            )
            stack.push_async_callback(self._leave)
            stack.push_async_callback(self._reads.close)
            await self.shards.start()
            stack.push_async_callback(self.shards.close)
            stack.push_async_callback(self._trials.close)
            stack.push_async_callback(self._alarms.close)
            stack.push_async_callback(self._scope.close)
            self._timer.every(settings.idle / EVICTION_ROUNDS, self._evict)
            self._timer.every(AHEAD_SECONDS / 2, self._alarms.poll)
            self._timer.every(settings.lease / 4, self._beat)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._crashed:
            await self._drain()
        await self._stack.aclose()

    @property
    def alarms_running(self) -> set[UUID]:
        """The objects whose alarm is being begun, or runs."""
        return self._alarms.running

    @property
    def alarms_armed(self) -> list[float]:
        """When, by ``wall.elapsed``, alarms are to be begun."""
        return self._alarms.armed

    async def poll_alarms(self) -> None:
        """Begin what is due, at once."""
        await self._alarms.poll()

    def crash(self) -> None:
        """Lose everything as the process would with ``kill -9``; for test kits."""
        self._crashed = True
        self._alarms.stop()
        self.shards.crash()
        self.dispatcher.reset_all(Unavailable("the worker has crashed"))

    async def _drain(self) -> None:
        """Let running handlers end, flush, end every activation, release the shards."""
        self._alarms.stop()
        try:
            async with asyncio.timeout(NOTICE_SECONDS):
                await registry.drain(self._database, self.settings.worker_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("others don't know of the drain: %s", error)
        await self.shards.drain(self.settings.drain)
        self.dispatcher.reset_all(Unavailable("this worker is shutting down"))

    async def _leave(self) -> None:
        if self._crashed:
            return
        try:
            await registry.leave(self._database, self.settings.worker_id)
        except Unavailable as error:
            log.warning("worker row not removed: %s", error)

    async def _evict(self) -> None:
        await self.dispatcher.evict_idle(EVICTION_ROUNDS)

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
            worker=settings.worker_id,
            meter=self.meter,
        )


class OwnedAlarms:
    """The alarm table, for the shards that are (still) served here."""

    def __init__(self, lane: Lane, claim_of: Callable[[int], Claim | None]) -> None:
        self.upcoming_alarms = lane.upcoming_alarms
        self._lane = lane
        self._claim_of = claim_of

    async def begin_alarms(
        self, shards: list[int], objects: list[UUID]
    ) -> list[tuple[UUID, Alarm, float]]:
        """As the lane's; what was handed over since it was armed is left out."""
        pairs = zip(shards, objects, strict=True)
        ours = [(s, o) for s, o in pairs if self._claim_of(s) is not None]
        if not ours:
            return []
        return await self._lane.begin_alarms([s for s, _ in ours], [o for _, o in ours])
