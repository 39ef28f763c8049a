"""Keeps a worker's shards: does what ``durable.domain.ownership`` decides.

Promise: a shard is served only between its claim's commit and its release, and, if the
former owner didn't release it, not before W has passed since the lock was obtained.
When a lane is lost its shards are suspended: what is in memory goes on only if the next
claim finds that nobody was in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from durable.domain import ownership_steps as steps
from durable.domain.clock import Clock, boottime
from durable.domain.errors import DurableError, Unavailable
from durable.domain.meter import Meter
from durable.domain.ownership import Ownership
from durable.tasks import TaskScope
from durable.worker.lane_seat import LaneSeat

if TYPE_CHECKING:
    from durable.domain.placement import WorkerRow
    from durable.domain.writes import Claim
    from durable.store.lane import Lane

log = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds that handlers and streams of a shard get when it moves to another worker.
GRACE_SECONDS = 5.0


class ShardObjects(Protocol):
    """The live objects of the shards: the dispatcher, as the keeper sees it."""

    def admit(self, shards: Collection[int]) -> None:
        """Let events of these shards in."""

    def suspend(self, shards: Collection[int]) -> None:
        """Let no event in; what is in memory stays."""

    def resume(self, claims: Sequence[Claim]) -> None:
        """Go on under these claims."""

    def reset(self, shards: Collection[int], error: Exception) -> None:
        """End the activations; nothing of them may leave or be written."""

    async def hand_over(self, shards: Collection[int], grace: float) -> None:
        """Return when no activation of these is alive, at most ``grace`` s later."""


async def _nothing(_: Any) -> None:
    """The default of ``before_open`` and ``before_release``."""


class ShardKeeper:
    """The claims of one worker on one lane.

    ``live`` and ``free`` ask for the live nodes, and for (shard, owner of the row) of
    what nobody has locked. ``before_open`` is awaited before newly claimed shards are
    served, ``before_release`` when nothing of theirs is alive any more; ``on_claimed``
    and ``on_released`` hear of shards that came and went, and must not raise. Shards
    that go on after a lost lane are claimed, but not opened.
    """

    def __init__(
        self,
        *,
        row: WorkerRow,
        shards: int,
        lease: float,
        freshness: float,
        make_lane: Callable[[Callable[[Exception], None]], Lane],
        seat: LaneSeat,
        objects: Callable[[], ShardObjects],
        live: Callable[[], Awaitable[Sequence[WorkerRow]]],
        free: Callable[[], Awaitable[Sequence[tuple[int, UUID | None]]]],
        before_open: Callable[[list[Claim]], Awaitable[None]] = _nothing,
        before_release: Callable[[list[int]], Awaitable[None]] = _nothing,
        on_claimed: Callable[[list[int]], None] = lambda _: None,
        on_released: Callable[[list[int]], None] = lambda _: None,
        meter: Meter | None = None,
        clock: Clock = boottime,
    ) -> None:
        self._meter = meter or Meter()
        self._owner = row.id
        self._role = row.role
        self._lease = lease
        self._make_lane = make_lane
        self._seat = seat
        self._objects = objects
        self._live = live
        self._free = free
        self._before_open = before_open
        self._before_release = before_release
        self._on_claimed = on_claimed
        self._on_released = on_released
        self._clock = clock
        self._machine = Ownership(row, shards, lease=lease, freshness=freshness)
        self._scope = TaskScope("shards")
        self._claims: dict[int, Claim] = {}
        self._ended: list[Claim] = []
        self._changed: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._drain_until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._events: deque[steps.Event] = deque()
        self._stepping = False
        self._started = self._closed = False
        self._doing: dict[type[Any], Callable[[Any], None]] = {
            steps.Serve: self._serve,
            steps.Suspend: self._suspend,
            steps.Resume: self._resume,
            steps.Reset: self._reset,
            steps.HandOver: self._hand_over,
            steps.Drained: lambda _: self._drained.set(),
            steps.OpenLane: self._in_task(self._open_lane),
            steps.Look: self._in_task(self._look),
            steps.Lock: self._in_task(self._lock),
            steps.WriteClaims: self._in_task(self._write_claims),
            steps.Unlock: self._in_task(self._unlock),
            steps.Prepare: self._in_task(self._prepare),
            steps.Release: self._in_task(self._release),
        }
        self.lane: Lane

    @property
    def owned(self) -> int:
        """How many shards are served here."""
        return len(self._claims)

    @property
    def has_lane(self) -> bool:
        """Whether there is a session on which shards could be served."""
        return self._started and self.lane.lost is None

    def owned_shards(self) -> list[int]:
        """The shards that are served here."""
        return list(self._claims)

    def claim_of(self, shard: int) -> Claim | None:
        """The claim under which a shard is served here, if it is."""
        return self._claims.get(shard)

    async def start(self) -> None:
        """Open the lane and claim what is to be had; look for more from then on.

        A front end has no lane and claims nothing.

        Raises:
            Unavailable: Postgres can't be reached.
        """
        if self._role == "front":
            return
        lane = self._make_lane(self._lost)
        await lane.open()
        self.lane = lane
        self._started = True
        self._feed(steps.LaneOpened())
        try:
            async with asyncio.timeout(self._lease):
                await self._until(lambda: self._machine.settled)
        except TimeoutError:
            log.warning("started without all the shards that were to be had")

    def wake(self, lost: UUID | None = None) -> None:
        """Look at once who is live and what is free: something has changed.

        ``lost``: a node whose link broke, so that it is most likely dead.
        """
        if self._started and not self._closed:
            self._feed(steps.Woken(lost))

    async def drain(self, grace: float) -> None:
        """Hand every shard over; what still runs after ``grace`` seconds is ended."""
        if self._drain_until is None:
            self._drain_until = self._clock() + grace
            self._feed(steps.DrainAsked())
            self._tell()
        try:
            async with asyncio.timeout(grace + self._lease):
                await self._drained.wait()
        except TimeoutError:
            log.warning("shards not released")

    def crash(self) -> None:
        """Lose the lane as with the process; nothing is claimed any more."""
        self._closed = True
        if self._role != "front":
            self.lane.sever()

    async def close(self) -> None:
        """Release every shard, then end the lane and so its locks."""
        await self.drain(0.0)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.close()
        if self._role != "front":
            await self.lane.close()

    # --- stepping

    def _feed(self, event: steps.Event) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                for effect in self._machine.step(self._clock(), self._events.popleft()):
                    self._doing[type(effect)](effect)
        finally:
            self._stepping = False
        self._set_timer()
        self._tell()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left = self._machine.wake_at - self._clock()
        if left != float("inf") and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(left, 0.0), self._tick)

    def _tick(self) -> None:
        self._feed(steps.Tick())

    def _in_task(self, work: Callable[[Any], Any]) -> Callable[[Any], None]:
        def start(effect: Any) -> None:
            if not self._closed:
                self._scope.start(work(effect), type(effect).__name__)

        return start

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)

    async def _until(self, happens: Callable[[], bool]) -> None:
        while not happens():
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)

    # --- the lane

    async def _open_lane(self, _: steps.OpenLane) -> None:
        await self.lane.close()
        lane = self._make_lane(self._lost)
        try:
            await lane.open()
        except Unavailable as error:
            log.warning("no lane: %s", error)
            self._feed(steps.LaneFailed())
            return
        self.lane = lane
        self._feed(steps.LaneOpened())

    def _lost(self, _: Exception) -> None:
        self._seat.leave(self.lane)
        self._feed(steps.LaneLost())

    async def _on_lane(self, work: Awaitable[T]) -> T | None:
        """Do something on the lane; None if that is lost, which the machine knows."""
        lane = self.lane
        try:
            done = await work
        except Unavailable:
            return None
        return done if lane.lost is None else None

    async def _lock(self, effect: steps.Lock) -> None:
        got = await self._on_lane(self.lane.lock(list(effect.shards)))
        if got is not None:
            self._feed(steps.Locked(effect.shards, got))

    async def _write_claims(self, effect: steps.WriteClaims) -> None:
        claiming = self.lane.write_claims(list(effect.shards), self._owner)
        rows = await self._on_lane(claiming)
        if rows is not None:
            self._meter.claims += len(rows)
            crashed = [r for r in rows if r.before is not None and not r.released]
            self._meter.failovers += len(crashed)
            self._feed(steps.Claimed(effect.shards, rows))

    async def _unlock(self, effect: steps.Unlock) -> None:
        await self._on_lane(self.lane.unlock(list(effect.shards)))

    async def _release(self, effect: steps.Release) -> None:
        claims = list(effect.claims)
        lane = self.lane
        await self._on_lane(lane.release(claims))
        if lane.lost is None:
            self._feed(steps.Released(claims))
            self._on_released([claim.shard for claim in claims])

    # --- what others must know, and are to do

    async def _look(self, effect: steps.Look) -> None:
        try:
            live = await self._live()
            free = await self._free() if effect.free else ()
        except DurableError as error:
            log.warning("no look at the shards: %s", error)
            self._feed(steps.Looked(None))
        else:
            self._feed(steps.Looked(live, free))

    async def _prepare(self, effect: steps.Prepare) -> None:
        try:
            await self._before_open(list(effect.claims))
        except Exception:
            # What wasn't told is missing; the shards must be served all the same.
            log.exception("shards are opened unprepared")
        self._feed(steps.Prepared(effect.claims))

    def _serve(self, effect: steps.Serve) -> None:
        shards = [claim.shard for claim in effect.claims]
        self._claims.update((claim.shard, claim) for claim in effect.claims)
        self._objects().admit(shards)
        log.info("claimed shards", extra={"shards": len(shards)})
        self._on_claimed(shards)

    def _suspend(self, effect: steps.Suspend) -> None:
        self._objects().suspend(self._forget(effect.claims))

    def _resume(self, effect: steps.Resume) -> None:
        self._claims.update((claim.shard, claim) for claim in effect.claims)
        self._objects().resume(effect.claims)
        self._seat.occupy(self.lane)
        if effect.claims:
            log.info("resumed shards", extra={"shards": len(effect.claims)})
            self._on_claimed([claim.shard for claim in effect.claims])

    def _reset(self, effect: steps.Reset) -> None:
        error = Unavailable("the shard's owner has lost it; try again")
        self._objects().reset(self._forget(effect.claims), error)

    def _hand_over(self, effect: steps.HandOver) -> None:
        grace = GRACE_SECONDS
        if self._drain_until is not None:
            grace = max(self._drain_until - self._clock(), 0.0)
        for claim in effect.claims:
            self._scope.start(self._end(claim, grace), "hand-over")

    async def _end(self, claim: Claim, grace: float) -> None:
        await self._objects().hand_over([claim.shard], grace)
        # In the same turn: nothing can have been activated since.
        if self._claims.get(claim.shard) == claim:
            self._forget([claim])
            if not self._ended:
                # What ends in the same turn is released together.
                self._scope.start(self._feed_ended(), "ended")
            self._ended.append(claim)

    async def _feed_ended(self) -> None:
        ended, self._ended = self._ended, []
        try:
            await self._before_release([claim.shard for claim in ended])
        except Exception:
            # They must be released all the same.
            log.exception("shards are released unprepared")
        self._feed(steps.Ended(ended))

    def _forget(self, claims: Sequence[Claim]) -> list[int]:
        shards = [claim.shard for claim in claims]
        for shard in shards:
            self._claims.pop(shard, None)
        return shards
