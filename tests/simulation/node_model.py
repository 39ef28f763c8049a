"""A worker in virtual time: the real decisions, gates and write-back, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain import ownership_steps as steps
from durable.domain.errors import CommitFailed, CommitUnknown, Unavailable
from durable.domain.ownership import Ownership
from durable.domain.placement import WorkerRow
from durable.domain.ports import Loaded
from durable.domain.writes import Claim, ObjectRow, WriteSet
from durable.gates.input_gate import InputGate
from durable.gates.output_gate import OutputGate
from durable.objects.cache_budget import CacheBudget
from durable.objects.write_back import WriteBack
from durable.worker.lane_seat import LaneSeat
from tests.simulation.lane_model import LaneModel
from tests.simulation.postgres_model import LOG, Stale

if TYPE_CHECKING:
    from tests.simulation.world import Operation, World

GRACE = 0.4


class Drain:
    """What an activation that outwaits a commit awaits: the world answers it."""

    def __init__(self, shard: int) -> None:
        self.shard = shard

    def __await__(self) -> Iterator[Any]:
        yield self


class Reader:
    """Of reads, the drain alone is asked for: the first read brings everything."""

    def drain(self, shard: int) -> Drain:
        return Drain(shard)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a read: {name}")


class Life:
    """One activation: the real gate and write-back, and handlers that take a while."""

    def __init__(self, node: Node, object_id: int, shard: int, claim: Claim) -> None:
        self.node, self.object_id, self.shard = node, object_id, shard
        self.ready = self.gone = self.suspended = False
        self.running = 0
        self.queue: list[Operation] = []
        self.gate = OutputGate(node.seat)
        self.rows = WriteBack(
            object_id=UUID(int=object_id),
            row=ObjectRow(1, str(object_id)),
            claim=claim,
            log=node.seat,
            reader=Reader(),  # type: ignore[arg-type]
            input_gate=InputGate(),
            output_gate=self.gate,
            budget=CacheBudget(per_object=1 << 20, limit=1 << 30),
            max_value_bytes=1 << 20,
            on_failure=self.reset,
            start=lambda _: None,  # type: ignore[arg-type, return-value]
        )

    @property
    def is_idle(self) -> bool:
        return (
            self.ready
            and not self.running
            and not self.queue
            and self.rows.is_idle
            and self.gate.is_idle
        )

    def enter(self, operation: Operation) -> None:
        if not self.ready or self.suspended:
            self.queue.append(operation)
            return
        self.running += 1
        self.node.world.at(
            self.node.world.now + operation.seconds,
            self.node,
            self._finish,
            operation,
        )

    def let_in(self) -> None:
        queue, self.queue = self.queue, []
        for operation in queue:
            self.enter(operation)

    def _finish(self, operation: Operation) -> None:
        self.running -= 1
        if self.gone:
            operation.failed()
            return
        log = self.rows.reads.row(LOG)
        text = log if isinstance(log, str) else ""
        if operation.writes:
            text += f"{operation.number},"
            self.rows.write_row(LOG, text)
        self.gate.emit(lambda: operation.answered(text, self))

    def reset(self, error: Exception) -> None:
        if self.gone:
            return
        self.gone = True
        self.node.gone(self)
        self.gate.break_(error)
        self.rows.end()
        for operation in self.queue:
            operation.failed()


class Node:
    """A worker process; the world holds back what a paused one would do."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.id = UUID(int=number)
        self.dead = False
        self.paused_until = self.cut_until = 0.0
        self.draining = False
        self.drained: Callable[[], None] | None = None
        self.seat = LaneSeat(lambda *_: None)
        self.lane: LaneModel | None = None
        self.claims: dict[int, Claim] = {}
        self.lives: dict[int, Life] = {}
        self.unsettled: dict[int, WriteBack] = {}
        self.leaving: set[int] = set()
        self.machine = Ownership(
            WorkerRow(id=self.id),
            world.shards,
            lease=world.lease,
            freshness=world.freshness,
            draw=world.random,
        )
        self._tick_at = float("inf")
        self._do: dict[type[Any], Callable[[Any], None]] = {
            steps.OpenLane: self._open_lane,
            steps.Look: self._look,
            steps.Lock: self._lock,
            steps.WriteClaims: self._write_claims,
            steps.Unlock: self._unlock,
            steps.Prepare: self._prepare,
            steps.Serve: self._serve,
            steps.Suspend: self._suspend,
            steps.Resume: self._resume,
            steps.Reset: self._reset,
            steps.HandOver: self._hand_over,
            steps.Release: self._release,
            steps.Drained: self._drained,
        }

    def __repr__(self) -> str:
        return f"node {self.id.int}"

    def feed(self, event: steps.Event) -> None:
        for effect in self.machine.step(self.world.now, event):
            self._do[type(effect)](effect)
        if self.machine.wake_at < self._tick_at:
            self._tick_at = self.machine.wake_at
            self.world.at(self._tick_at, self, self._tick, self._tick_at)

    def _tick(self, at: float) -> None:
        if at == self._tick_at:
            self._tick_at = float("inf")
            self.feed(steps.Tick())

    # --- the lane

    def _open_lane(self, _: steps.OpenLane) -> None:
        if self.cut_until > self.world.now:
            self.world.to_node(self, self.feed, steps.LaneFailed(), 0.1)
            return

        def opened(_: None) -> None:
            self.lane = LaneModel(self)
            self.feed(steps.LaneOpened())

        self.world.to_node(self, opened, None, 0.003)

    def lane_lost(self) -> None:
        assert self.lane is not None
        self.seat.leave(self.lane)  # type: ignore[arg-type]
        self.feed(steps.LaneLost())

    def _errand(self, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        lane = self.lane
        assert lane is not None
        if not lane.lost:
            lane.errand(lambda: work(lane.session), done)

    def _lock(self, effect: steps.Lock) -> None:
        shards = list(effect.shards)
        self._errand(
            lambda session: self.world.postgres.lock(session, shards),
            lambda got: self.feed(steps.Locked(shards, got)),
        )

    def _write_claims(self, effect: steps.WriteClaims) -> None:
        shards = list(effect.shards)
        self._errand(
            lambda session: self.world.postgres.claim(session, shards),
            lambda rows: self.feed(steps.Claimed(shards, rows)),
        )

    def _unlock(self, effect: steps.Unlock) -> None:
        shards = list(effect.shards)
        self._errand(
            lambda session: self.world.postgres.unlock(session, shards),
            lambda _: None,
        )

    def _release(self, effect: steps.Release) -> None:
        claims = list(effect.claims)
        self._errand(
            lambda session: self.world.postgres.release(session, claims),
            lambda _: self.feed(steps.Released(claims)),
        )

    def commit_off_lane(self, source: Any, writes: WriteSet) -> None:
        world, postgres = self.world, self.world.postgres
        claim = source.claim
        late = world.random() < 0.4
        duration = world.uniform(0.05, world.lease * 0.4) if late else 0.002
        lost = world.random() < 0.4

        def begins() -> None:
            try:
                postgres.begin(claim)
            except Stale:
                world.to_node(self, source.commit_failed, CommitFailed("stale"))
                return
            world.at(world.now + duration, None, ends)
            if lost:
                after = world.uniform(0.0, duration)
                unknown = CommitUnknown("the connection was lost")
                world.to_node(self, source.commit_failed, unknown, after)

        def ends() -> None:
            postgres.end(source.object_id.int, claim, writes)
            if not lost:
                world.to_node(self, lambda _: source.committed(), None)

        world.to_postgres(self, begins)

    # --- what others know, and what is served

    def _look(self, _: steps.Look) -> None:
        if self.cut_until > self.world.now:
            self.world.to_node(self, self.feed, steps.Looked(None), 0.3)
            return
        looked = steps.Looked(self.world.live(), self.world.postgres.free())
        self.world.to_node(self, self.feed, looked)

    def _prepare(self, effect: steps.Prepare) -> None:
        prepared = steps.Prepared(effect.claims)
        self.world.to_node(self, self.feed, prepared, self.world.uniform(0.0, 0.02))

    def _serve(self, effect: steps.Serve) -> None:
        for claim in effect.claims:
            self.claims[claim.shard] = claim
            self.leaving.discard(claim.shard)
            self.world.served(claim)

    def _suspend(self, effect: steps.Suspend) -> None:
        for life in self._in(effect.claims):
            life.suspended = True

    def _resume(self, effect: steps.Resume) -> None:
        assert self.lane is not None
        for claim in effect.claims:
            self.claims[claim.shard] = claim
            self.world.served(claim)
        lives = [life for life in self.lives.values() if life.shard in self.claims]
        for life in lives:
            life.rows.claim = self.claims[life.shard]
        self.seat.occupy(self.lane)  # type: ignore[arg-type]
        for life in lives:
            life.suspended = False
            life.let_in()

    def _reset(self, effect: steps.Reset) -> None:
        for life in self._in(effect.claims):
            life.reset(Unavailable("lost"))

    def _in(self, claims: Sequence[Claim]) -> list[Life]:
        shards = {claim.shard for claim in claims}
        for shard in shards:
            self.claims.pop(shard, None)
        return [life for life in self.lives.values() if life.shard in shards]

    def _hand_over(self, effect: steps.HandOver) -> None:
        until = self.world.now + GRACE
        for claim in effect.claims:
            self.leaving.add(claim.shard)
            self._end(claim, until)

    def _end(self, claim: Claim, until: float) -> None:
        if self.claims.get(claim.shard) != claim or claim.shard not in self.leaving:
            return
        for life in [a for a in self.lives.values() if a.shard == claim.shard]:
            if life.is_idle or self.world.now >= until:
                life.reset(Unavailable("moved"))
            else:
                again = self.world.now + 0.03
                self.world.at(again, self, self._end, claim, until)
                return
        del self.claims[claim.shard]
        self.feed(steps.Ended([claim]))

    def drain(self, drained: Callable[[], None]) -> None:
        self.draining, self.drained = True, drained
        self.feed(steps.DrainAsked())

    def _drained(self, _: steps.Drained) -> None:
        if self.drained is not None:
            self.drained()

    # --- objects

    def deliver(self, operation: Operation) -> None:
        life = self.lives.get(operation.object_id)
        claim = self.claims.get(operation.shard)
        if operation.shard in self.leaving or (life is None and claim is None):
            operation.failed()
            return
        if life is None:
            assert claim is not None
            before = self.unsettled.get(operation.object_id)
            if before is not None and before.is_unsettled and not before.unknown:
                operation.failed()  # in flight: the next event outwaits it
                return
            life = Life(self, operation.object_id, operation.shard, claim)
            self.lives[operation.object_id] = life
            self._start(life, before)
        life.enter(operation)

    def _start(self, life: Life, before: WriteBack | None) -> None:
        if before is None:
            self._load(life)
            return
        outwaiting = before.outwait()

        def go_on(_: None = None) -> None:
            try:
                wait = outwaiting.send(None)
            except StopIteration:
                self._load(life)
                return
            assert isinstance(wait, Drain)
            self.world.postgres.drain(
                wait.shard, lambda: self.world.to_node(self, go_on, None)
            )

        go_on()

    def _load(self, life: Life) -> None:
        def arrives() -> None:
            log = self.world.postgres.logs.get(life.object_id)
            self.world.to_node(self, opened, log)

        def opened(log: str | None) -> None:
            if life.gone:
                return
            rows: dict[Any, Any] = {} if log is None else {LOG: log}
            life.rows.opened(Loaded(log is not None, None, None, rows, complete=True))
            life.ready = True
            if not life.suspended:
                life.let_in()

        self.world.to_postgres(self, arrives)

    def gone(self, life: Life) -> None:
        if self.lives.get(life.object_id) is life:
            del self.lives[life.object_id]
        if life.rows.is_unsettled:
            self.unsettled[life.object_id] = life.rows
