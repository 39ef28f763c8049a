"""A lane in virtual time: one statement under way, beats, group commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable.domain.errors import CommitFailed, CommitUnknown
from durable.domain.lease import Lease
from tests.simulation.postgres_model import Session, Stale

if TYPE_CHECKING:
    from tests.simulation.node_model import Node

# Of the write sets, so many are as if they were too large for the lane.
OFF_LANE = 0.2


class LaneModel:
    """What ``durable.store.lane.Lane`` does, without a connection."""

    def __init__(self, node: Node) -> None:
        self.node, self.world = node, node.world
        self.lease = Lease(self.world.freshness)
        self.lease.heard(self.world.now)
        self.session: Session = self.world.postgres.connect(node.id, self._killed)
        self.lost = False
        self.errands: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self.dirty: deque[Any] = deque()
        self.callbacks: list[Callable[[], None]] = []
        self.busy: object | None = None
        self.in_flight: list[Any] = []
        self.kicked = False
        self._beat()

    def is_fresh(self) -> bool:
        return self.lease.is_fresh(self.world.now)

    def when_fresh(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)
        self.kick()

    def mark_dirty(self, source: Any) -> None:
        self.dirty.append(source)
        self.kick()

    def take_waiting(self) -> tuple[list[Any], list[Callable[[], None]]]:
        waiting = list(self.dirty), self.callbacks
        self.dirty.clear()
        self.callbacks = []
        return waiting

    def errand(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.errands.append((work, done))
        self.kick()

    def kick(self) -> None:
        if not self.kicked and self.busy is None:
            self.kicked = True
            self.world.at(self.world.now, self.node, self._next)

    def _next(self) -> None:
        self.kicked = False
        if self.busy is not None or self.lost:
            return
        if self.errands:
            self._send(*self.errands.popleft())
        elif self.dirty:
            self._commit()
        elif self.callbacks and not self.is_fresh():
            self._send(lambda: None, lambda _: None)
        elif self.callbacks:
            self._call_back()

    def _beat(self) -> None:
        if not self.lost:
            if self.busy is None:
                self._send(lambda: None, lambda _: None)
            beat = self.world.now + self.world.lease / 4
            self.world.at(beat, self.node, self._beat)

    def _commit(self) -> None:
        batch, sources = [], []
        for source in list(self.dirty):
            writes = source.take_writes()
            if writes is None:
                continue
            if self.world.random() < OFF_LANE:
                self.node.commit_off_lane(source, writes)
            else:
                batch.append((source, source.claim, writes))
                sources.append(source)
        self.dirty.clear()
        if not batch:
            self.kick()
            return
        self.in_flight = sources

        def committed(_: Any) -> None:
            self.in_flight = []
            for source in sources:
                source.committed()

        self._send(lambda: self.world.postgres.commit(batch), committed)

    def _send(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        world, node, sent = self.world, self.node, self.world.now
        statement = self.busy = object()

        def arrives() -> None:
            if not self.session.alive:
                return
            try:
                result = work()
            except Stale:
                result = Stale
            self.session.heard = world.now
            world.to_node(node, answered, result)

        def answered(result: Any) -> None:
            if self.lost or self.busy is not statement:
                return
            if not self.session.alive and world.random() < 0.5:
                return  # killed on the way: the acknowledgement is lost
            self.busy = None
            if result is Stale:
                self.lose(CommitFailed("stale"))
                return
            self.lease.heard(sent)
            done(result)
            if self.callbacks and self.is_fresh():
                self._call_back()
            self.kick()

        def too_late() -> None:
            if self.busy is statement:
                self.lose(CommitUnknown("no answer"))

        world.to_postgres(node, arrives)
        world.at(sent + world.lease * 0.9, node, too_late)

    def _call_back(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    def _killed(self) -> None:
        # The notice may be slow: what counts is that nothing leaves when it must not.
        delay = self.world.uniform(0.0, self.world.freshness * 2)
        self.world.to_node(
            self.node, lambda _: self.lose(CommitUnknown("ended")), None, delay
        )

    def lose(self, error: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        self.lease.lose()
        failed, self.in_flight = self.in_flight, []
        for source in failed:
            source.commit_failed(error)
        self.errands.clear()
        # It hangs up: the server ends what it is at, and the session.
        self.world.to_postgres(
            self.node, lambda: self.world.postgres.kill(self.session)
        )
        self.node.lane_lost()
