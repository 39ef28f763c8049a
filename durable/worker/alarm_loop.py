"""Fires the alarms of the shards that this worker owns.

A window of upcoming alarms is in memory, so that each fires at its time; the poll of
the alarm table is what makes it certain. The statement that records the attempt
decides: it refuses what isn't due by the database's clock. One run of an object at a
time; a run that the infrastructure ended is begun again, with a back-off that isn't
counted.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from durable.domain.alarms import Alarm, backoff
from durable.domain.clock import wall
from durable.domain.errors import DurableError, Unavailable
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.clock import Clock

log = logging.getLogger(__name__)

# Seconds that the window reaches ahead; it is read twice within that time.
AHEAD_SECONDS = 20.0
# Alarms in one read of the window, in one record of attempts, and running at a time.
MAX_WINDOW = 5_000
MAX_BATCH = 256
MAX_RUNNING = 512
# An object is woken so many seconds before its alarm is due, at most: many that are due
# at once are then loaded little by little, and only their runs fall together.
WARM_SECONDS = 0.7
# What was due while nobody owned its shard: if it is more than so many, it is begun at
# about so many a second, in an order of chance, so that it doesn't hold up the rest.
MANY_OVERDUE = 256
# A window that has more than one read brings is read again not sooner than this.
MIN_READ_SECONDS = 1.0
OVERDUE_A_SECOND = 1_000
OVERDUE_SECONDS = 1.0


class AlarmTable(Protocol):
    """The alarm rows, as the lane that holds the shards' locks reads them."""

    async def upcoming_alarms(
        self, shards: list[int], ahead: float, limit: int
    ) -> list[tuple[int, UUID, float]]:
        """(shard, object, seconds left) of what is due within ``ahead`` seconds."""

    async def begin_alarms(
        self, shards: list[int], objects: list[UUID]
    ) -> list[tuple[UUID, Alarm, float]]:
        """(object, alarm, seconds left); with none left its attempt is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSources:
    """What the loop is given.

    The owned shards, whether an object's class is hosted here, the lane of the shards,
    and who runs an alarm.
    """

    owned: Callable[[], list[int]]
    hosts: Callable[[UUID], bool]
    table: Callable[[], AlarmTable]
    run: Callable[[UUID, Alarm], Awaitable[None]]
    warm: Callable[[UUID], None] = lambda _: None


class AlarmLoop:
    """The window in memory, and the runs."""

    def __init__(self, sources: AlarmSources, clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._scope = TaskScope("alarms")
        self._slots = asyncio.Semaphore(MAX_RUNNING)
        # (time, shard, object, due time): what is woken ahead at its time, or begun.
        self._heap: list[tuple[float, int, UUID, float]] = []
        # When each object's alarm is to be begun; the heap may hold stale entries.
        self._armed: dict[UUID, float] = {}
        self._running: set[UUID] = set()
        self._faults: dict[UUID, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._more: asyncio.TimerHandle | None = None
        # What is due while attempts are being recorded is the next batch.
        self._due: list[tuple[int, UUID]] = []
        self._beginning = False
        self._stopped = False

    @property
    def running(self) -> set[UUID]:
        """The objects whose alarm is being begun, or runs."""
        return set(self._running)

    @property
    def armed(self) -> list[float]:
        """When, by the loop's clock, alarms are to be begun."""
        return [*self._armed.values()]

    async def poll(self) -> None:
        """Read the window anew."""
        shards = self._sources.owned()
        if self._stopped or not shards:
            return
        try:
            rows = await self._sources.table().upcoming_alarms(
                shards, AHEAD_SECONDS, MAX_WINDOW
            )
        except Unavailable as error:
            log.warning("alarms not read: %s", error)
            return
        overdue = sum(wait < -OVERDUE_SECONDS for _, _, wait in rows)
        spread = overdue / OVERDUE_A_SECOND if overdue > MANY_OVERDUE else 0.0
        for shard, object_id, wait in rows:
            if wait < -OVERDUE_SECONDS:
                wait = wall.chance() * spread
            # What the infrastructure interrupted waits for its back-off; what another
            # app's workers host is theirs.
            if object_id not in self._faults and self._sources.hosts(object_id):
                self._arm(shard, object_id, wait)
        # A clock that a test moved may have passed what was armed before.
        self._set_timer()
        if len(rows) >= MAX_WINDOW:
            # There are more in the window: read on while these are being begun.
            self._read_on(max(rows[-1][2] / 2, MIN_READ_SECONDS))

    def _read_on(self, wait: float) -> None:
        if self._more is not None:
            self._more.cancel()
        if not self._stopped:
            loop = asyncio.get_running_loop()
            self._more = loop.call_later(wait, lambda: self._scope.start(self.poll()))

    def changed(self, shard: int, object_id: UUID, alarm: Alarm | None) -> None:
        """A commit has set or deleted an alarm."""
        self._faults.pop(object_id, None)
        if alarm is None:
            self._armed.pop(object_id, None)
            return
        wait = alarm.due - wall.now()
        self._armed.pop(object_id, None)
        if wait <= AHEAD_SECONDS:
            self._arm(shard, object_id, wait)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopped = True
        for timer in (self._timer, self._more):
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Stop, and end what runs."""
        self.stop()
        await self._scope.close()

    def _arm(self, shard: int, object_id: UUID, wait: float) -> None:
        when = self._clock() + max(wait, 0.0)
        armed = self._armed.get(object_id)
        if armed is not None and armed <= when:
            return
        self._armed[object_id] = when
        heapq.heappush(self._heap, (when, shard, object_id, when))
        if wait > WARM_SECONDS:
            ahead = when - WARM_SECONDS * (0.2 + 0.8 * wall.chance())
            heapq.heappush(self._heap, (ahead, shard, object_id, when))
        if self._heap[0][2] == object_id:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._heap or self._stopped:
            return
        left = max(self._heap[0][0] - self._clock(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(left, self._tick)

    def _tick(self) -> None:
        now = self._clock()
        seen = 0
        while self._heap and self._heap[0][0] <= now and seen < MAX_BATCH:
            seen += 1
            time, shard, object_id, when = heapq.heappop(self._heap)
            if self._armed.get(object_id) != when:
                continue
            if time < when:
                self._sources.warm(object_id)
                continue
            del self._armed[object_id]
            if object_id not in self._running:
                self._running.add(object_id)
                self._due.append((shard, object_id))
        if self._due and not self._beginning:
            self._beginning = True
            self._scope.start(self._begin_due())
        self._set_timer()

    async def _begin_due(self) -> None:
        try:
            while self._due:
                batch = self._due[:MAX_BATCH]
                del self._due[:MAX_BATCH]
                await self._begin(batch)
        finally:
            self._beginning = False

    async def _begin(self, due: list[tuple[int, UUID]]) -> None:
        shard_of = {object_id: shard for shard, object_id in due}
        try:
            begun = await self._sources.table().begin_alarms(
                [shard for shard, _ in due], [object_id for _, object_id in due]
            )
        except Unavailable as error:
            # The poll of whoever owns the shards next finds them.
            log.warning("alarms not begun: %s", error)
            self._forget(shard_of)
            return
        for object_id, alarm, wait in begun:
            shard = shard_of.pop(object_id)
            if wait > 0:
                self._running.discard(object_id)
                self._arm(shard, object_id, wait)
            else:
                self._scope.start(self._run(shard, object_id, alarm))
        # What is left was deleted meanwhile.
        self._forget(shard_of)

    def _forget(self, objects: Iterable[UUID]) -> None:
        for object_id in objects:
            self._running.discard(object_id)
            self._faults.pop(object_id, None)

    async def _run(self, shard: int, object_id: UUID, alarm: Alarm) -> None:
        again: float | None = None
        try:
            async with self._slots:
                await self._sources.run(object_id, alarm)
            self._faults.pop(object_id, None)
        except DurableError as error:
            faults = self._faults.get(object_id, 0)
            self._faults[object_id] = faults + 1
            again = backoff(faults, wall.chance())
            log.warning("alarm interrupted: %s", error, extra={"object": object_id.hex})
        finally:
            self._running.discard(object_id)
        armed = self._armed.get(object_id)
        if again is not None:
            # Later than the row says: the poll must not make it earlier.
            self._arm(shard, object_id, again)
        elif armed is not None:
            # Set anew while it ran.
            self._arm_again(shard, object_id, armed)

    def _arm_again(self, shard: int, object_id: UUID, when: float) -> None:
        del self._armed[object_id]
        self._arm(shard, object_id, when - self._clock())
