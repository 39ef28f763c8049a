"""A lane: the connection that holds shard locks and makes the commits of their objects.

Promise: a commit that succeeds was made by the session that held the shard's lock. One
commit is under way at a time; what gets dirty meanwhile is the next batch. Nothing may
leave an object unless a statement sent less than W ago was acknowledged here. A lane
that is lost stays lost: its owner opens another and claims anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg

from durable.domain.alarms import Alarm
from durable.domain.errors import (
    CommitUnknown,
    DataRefused,
    DurableError,
    Unavailable,
)
from durable.domain.lease import Lease
from durable.domain.meter import Meter
from durable.domain.ownership_steps import ClaimedShard
from durable.store import lane_statements as sql
from durable.store.commit import Entry, lane_commit
from durable.store.database import DRIVER_ERRORS, STALE, commit_error, session_settings
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.clock import Clock
    from durable.domain.ports import Committable
    from durable.domain.writes import Claim, WriteSet
    from durable.store.database import Database

log = logging.getLogger(__name__)
T = TypeVar("T")

# The clearing-up limits of one batch; beyond the bytes, a write set goes off the lane.
MAX_ROWS = 256
MAX_BYTES = 1 << 20

_Errand = Callable[[], Awaitable[Any]]
_Batch = list[tuple["Committable", "WriteSet"]]


class Lane:
    """One session; its commits, heartbeats and claims run one after another."""

    def __init__(
        self,
        dsn: str,
        database: Database,
        *,
        lease: float,
        freshness: float,
        clock: Clock,
        name: str,
        on_lost: Callable[[Exception], None],
        on_alarm: Callable[[int, UUID, Alarm | None], None],
        worker: UUID | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._worker = worker
        self.meter = meter or Meter()
        self._on_alarm = on_alarm
        self._dsn = dsn
        self._database = database
        self._lease = lease
        self._fresh = Lease(freshness)
        self._clock = clock
        self._name = name
        self._on_lost = on_lost
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        self._dirty: deque[Committable] = deque()
        self._errands: deque[tuple[_Errand, asyncio.Future[Any]]] = deque()
        self._when_fresh: list[Callable[[], None]] = []
        self._work: asyncio.Future[None] | None = None
        self._scope = TaskScope(name, self._lose)
        self.lost: Exception | None = None

    async def open(self) -> None:
        """Connect; the session's locks end with it. Says that ``worker`` is present.

        Raises:
            Unavailable: Postgres can't be reached.
        """
        idle = str(int(self._lease * 1000))
        try:
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=self._lease,
                server_settings={
                    **session_settings(self._lease, self._name),
                    "idle_session_timeout": idle,
                    "lock_timeout": "100",
                    "search_path": "pg_catalog",
                },
            )
            for statement in sql.STATEMENTS:
                prepared = await self._connection.prepare(statement)
                self._prepared[statement] = prepared
            if self._worker is not None:
                bits = int.from_bytes(self._worker.bytes[:4], signed=True)
                await self._prepared[sql.PRESENT].fetchval(bits)
        except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
            if self._connection is not None:
                self._connection.terminate()
            raise Unavailable(f"Postgres can't be reached: {error}") from error
        self._connection.add_termination_listener(self._terminated)
        self._fresh.heard(self._clock())
        self._scope.start(self._run(), self._name)

    async def close(self) -> None:
        """End the session, and so its locks."""
        self.lost = self.lost or Unavailable("the lane was closed")
        self._refuse_errands()
        await self._scope.close()
        self._hang_up()

    def sever(self) -> None:
        """Lose the session, as in a crash."""
        self._lose(Unavailable("the lane was cut"))

    # --- freshness

    def is_fresh(self) -> bool:
        """Whether Postgres acknowledged something that was sent less than W ago."""
        return self._fresh.is_fresh(self._clock())

    def when_fresh(self, callback: Callable[[], None]) -> None:
        """Call back after the next acknowledgement, and see that there is one."""
        self._when_fresh.append(callback)
        self._wake()

    # --- commits

    def mark_dirty(self, source: Committable) -> None:
        """Commit what this object has written, with the next batch."""
        self._dirty.append(source)
        if self._work is not None:
            self._wake()

    def take_waiting(self) -> tuple[list[Committable], list[Callable[[], None]]]:
        """Of a lane that is lost: what wanted to be committed, and called back."""
        dirty, callbacks = list(self._dirty), self._when_fresh
        self._dirty.clear()
        self._when_fresh = []
        return dirty, callbacks

    # --- claims

    async def claim(self, shards: list[int], owner: UUID) -> list[ClaimedShard]:
        """Lock and claim what is free."""
        locked = await self.lock(shards)
        claimed = await self.write_claims(locked, owner)
        await self.unlock(list(set(locked) - {row.shard for row in claimed}))
        return claimed

    async def lock(self, shards: list[int]) -> list[int]:
        """Try for the session locks of these; returns those obtained."""
        rows = await self.run(sql.LOCK, shards)
        return [row[0] for row in rows]

    async def write_claims(self, shards: list[int], owner: UUID) -> list[ClaimedShard]:
        """Claim what is locked here; what the fence lock isn't free of is left out."""
        rows = await self.run(sql.CLAIM, shards, owner, self._lease)
        return [ClaimedShard(*row) for row in rows]

    async def unlock(self, shards: list[int]) -> None:
        """Give session locks back."""
        if shards:
            await self.run(sql.UNLOCK, shards)

    async def release(self, claims: list[Claim]) -> None:
        """Give shards back: first the row, then the lock."""
        shards = [claim.shard for claim in claims]

        async def release() -> None:
            ids = [claim.claim_id for claim in claims]
            await self._prepared[sql.RELEASE].fetch(shards, ids)
            await self._prepared[sql.UNLOCK].fetch(shards)

        await self._errand(release)

    # --- alarms

    def alarm_changed(self, claim: Claim, object_id: UUID, alarm: Alarm | None) -> None:
        """A commit has set or deleted an alarm."""
        self._on_alarm(claim.shard, object_id, alarm)

    async def upcoming_alarms(
        self, shards: list[int], ahead: float, limit: int
    ) -> list[tuple[int, UUID, float]]:
        """(shard, object, seconds left) of what is due within ``ahead`` seconds."""
        rows = await self.run(sql.UPCOMING, shards, ahead, limit)
        return [(row[0], row[1], row[2]) for row in rows]

    async def begin_alarms(
        self, shards: list[int], objects: list[UUID]
    ) -> list[tuple[UUID, Alarm, float]]:
        """(object, alarm, seconds left); with none left its attempt is recorded."""
        rows = await self.run(sql.BEGIN, shards, objects)
        return [(row[0], Alarm(row[1], row[2]), row[3]) for row in rows]

    # --- the one loop

    async def _run(self) -> None:
        beat = self._lease / 4
        while self.lost is None:
            if self._errands:
                await self._run_errand(*self._errands.popleft())
            elif self._dirty:
                await self._commit_batch()
            elif self._when_fresh and not self.is_fresh():
                await self._heartbeat()
            elif self._when_fresh:
                self._call_back()
            else:
                await self._wait_for_work(beat)

    async def _wait_for_work(self, beat: float) -> None:
        self._work = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(beat):
                await self._work
        except TimeoutError:
            await self._heartbeat()
        finally:
            self._work = None

    async def _heartbeat(self) -> None:
        sent = self._clock()
        await self._within_lease(self._prepared[sql.BEAT].fetchval())
        self._heard(sent)

    async def _within_lease(self, statement: Awaitable[T]) -> T:
        # Give up before the server could: what it doesn't hear of for T, it ends.
        async with asyncio.timeout(self._lease * 0.9):
            return await statement

    def _heard(self, sent: float) -> None:
        self._fresh.heard(sent)
        if self._when_fresh and self.is_fresh():
            self._call_back()

    def _call_back(self) -> None:
        callbacks, self._when_fresh = self._when_fresh, []
        for callback in callbacks:
            callback()

    async def _commit_batch(self) -> None:
        batch: _Batch = []
        rows = size = 0
        dirty = self._dirty
        while dirty and rows < MAX_ROWS and size < MAX_BYTES:
            source = dirty.popleft()
            writes = source.take_writes()
            if writes is None:
                continue
            if writes.bytes > MAX_BYTES:
                self._scope.start(self._commit_off_lane(source, writes))
                continue
            batch.append((source, writes))
            rows += len(writes.rows) + 1
            size += writes.bytes
        if batch:
            batch.sort(key=lambda entry: entry[0].object_id.int)
            await self._send(batch)

    async def _send(self, batch: _Batch) -> None:
        entries: list[Entry] = [
            (source.object_id, source.claim, writes) for source, writes in batch
        ]
        statement, params = lane_commit(entries)
        sent = self._clock()
        try:
            await self._within_lease(self._prepared[statement].fetchval(*params))
        except asyncpg.PostgresError as error:
            refused = commit_error(error)
            if error.sqlstate == STALE or isinstance(refused, CommitUnknown):
                self._fail(batch, refused)
                raise refused from error
            await self._refused(batch, refused)
        except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
            unknown = commit_error(error)
            self._fail(batch, unknown)
            raise unknown from error
        except asyncio.CancelledError:
            self._fail(batch, CommitUnknown("the lane was closed in a commit"))
            raise
        except (ValueError, TypeError, asyncpg.DataError) as error:
            # The driver couldn't encode a value: nothing was sent.
            await self._refused(batch, DataRefused(f"a value was refused: {error}"))
        else:
            self.meter.commits.add(self._clock() - sent)
            self.meter.batches.add(len(batch))
            self._fresh.heard(sent)
            for source, _ in batch:
                source.committed()
            self._heard(sent)

    async def _refused(self, batch: _Batch, error: DurableError) -> None:
        # Definitely not written. Halve until the bad one is alone: neighbours commit.
        if len(batch) == 1:
            self._fail(batch, error)
            return
        middle = len(batch) // 2
        try:
            await self._send(batch[:middle])
        except BaseException:
            # The lane is lost. The other half wasn't sent again: it isn't written.
            self._fail(batch[middle:], error)
            raise
        await self._send(batch[middle:])

    def _fail(self, batch: _Batch, error: Exception) -> None:
        for source, _ in batch:
            source.commit_failed(error)

    async def _commit_off_lane(self, source: Committable, writes: WriteSet) -> None:
        try:
            await self._database.commit(source.object_id, source.claim, writes)
        except DurableError as error:
            source.commit_failed(error)
        except asyncio.CancelledError:
            source.commit_failed(CommitUnknown("the lane was closed in a commit"))
            raise
        else:
            source.committed()

    async def run(self, statement: str, *params: Any) -> list[Any]:
        """The rows of one of ``lane_statements``, sent between commits."""
        rows: list[Any] = await self._errand(
            lambda: self._prepared[statement].fetch(*params)
        )
        return rows

    async def _errand(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run something on the connection between commits."""
        if self.lost is not None:
            raise Unavailable("the lane is lost") from self.lost
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._errands.append((work, result))
        self._wake()
        return await result

    async def _run_errand(self, work: _Errand, result: asyncio.Future[Any]) -> None:
        sent = self._clock()
        try:
            value = await self._within_lease(work())
        except BaseException as error:
            if not result.done():
                result.set_exception(Unavailable(f"the lane failed: {error}"))
            raise
        self._heard(sent)
        if not result.done():
            result.set_result(value)

    def _refuse_errands(self) -> None:
        while self._errands:
            _, result = self._errands.popleft()
            if not result.done():
                result.set_exception(Unavailable("the lane is lost"))

    def _wake(self) -> None:
        if self._work is not None and not self._work.done():
            self._work.set_result(None)

    def _terminated(self, _: object) -> None:
        self._lose(Unavailable("Postgres ended the lane's session"))

    def _lose(self, error: Exception) -> None:
        if self.lost is not None:
            return
        if not isinstance(error, DurableError):
            # Callers of objects hear of it: in our words, and to try again.
            error = Unavailable(f"the lane failed: {error}")
        self.lost = error
        self.meter.lanes_lost += 1
        self._fresh.lose()
        log.warning("lane lost: %s", error, extra={"lane": self._name})
        self._refuse_errands()
        # Its locks must be free at once for whoever claims next.
        self._hang_up()
        self._wake()
        self._on_lost(error)

    def _hang_up(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.remove_termination_listener(self._terminated)
            self._connection.terminate()
