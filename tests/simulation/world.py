"""One seed: workers, clients and faults in virtual time, and what must hold.

Checked at every effect and commit: I1 (no commit under a former epoch), I2 (what was
acknowledged is seen, and never replaced), I3 (nothing leaves before its commit), I4 (no
effect of an owner leaves once the next one serves); in the end I7: after all faults are
healed every shard is served within T + 5 s.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

from durable.domain import ownership_steps as steps
from durable.domain.placement import WorkerRow
from durable.domain.writes import Claim
from tests.simulation.node_model import Life, Node
from tests.simulation.postgres_model import Postgres

NODES = 3
SHARDS = 3
CLIENTS = 3
# Virtual seconds: the lease T, W, and how long there are faults.
LEASE = 1.5
FRESHNESS = 0.5
FAULTY_SECONDS = 3.5
TICK = steps.Tick()


class Violation(AssertionError):
    """An invariant does not hold."""


class Operation:
    """A client's read or append, and what its answer must contain."""

    __slots__ = (
        "ended",
        "known",
        "number",
        "object_id",
        "on_end",
        "seconds",
        "shard",
        "world",
        "writes",
    )

    def __init__(self, world: World, number: int, on_end: Callable[[bool], None]):
        self.world, self.number, self.on_end = world, number, on_end
        self.object_id = self.shard = number % SHARDS
        draw = world.random()
        self.seconds = 0.0 if draw < 0.6 else draw * draw * 0.5
        self.writes = world.random() < 0.6
        self.ended = False
        # What had been answered to anybody before this began.
        self.known = world.known.get(self.object_id, "")

    def answered(self, log: str, life: Life) -> None:
        """The answer leaves the node."""
        world = self.world
        committed = world.postgres.logs.get(self.object_id, "")
        if not committed.startswith(log):
            world.violated("I3", f"{log!r} left, {committed!r} is committed")
        if not log.startswith(self.known):
            world.violated("I2", f"{log!r} left, {self.known!r} was known")
        serving = world.serving[self.shard]
        if serving.epoch > life.rows.claim.epoch:
            world.violated("I4", f"{life.rows.claim} answers, {serving} serves")
        if len(log) > len(world.known.get(self.object_id, "")):
            world.known[self.object_id] = log
        self._end(True)

    def failed(self) -> None:
        """It wasn't served, or nobody knows."""
        self._end(False)

    def _end(self, served: bool) -> None:
        if not self.ended:
            self.ended = True
            self.on_end(served)


class World:
    """Virtual time, the network, and everybody in it."""

    lease, freshness, shards = LEASE, FRESHNESS, SHARDS

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self.random = self._random.random
        self.now = 0.0
        self.violation: str | None = None
        self._events: list[
            tuple[float, int, Node | None, Callable[..., None], Any]
        ] = []
        self._order = count()
        self._numbers = count(1)
        self._operations = count(1)
        # The newest claim that lets events in, by shard. Who slept past its lease may
        # open later under an older one: nothing of it may leave.
        self.serving: dict[int, Claim] = {}
        self.known: dict[int, str] = {}
        self.beats: dict[UUID | None, float] = {}
        self.postgres = Postgres(self, SHARDS)
        self.nodes = [self._new_node() for _ in range(NODES)]
        self._healed = False
        self._served_since: set[int] = set()

    def violated(self, invariant: str, what: str) -> None:
        # Noted, not raised: who lets an effect out catches its errors.
        if self.violation is None:
            self.violation = f"seed {self.seed}, {self.now:.3f} s: {invariant}: {what}"

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    # --- time and the network

    def at(
        self,
        when: float,
        whose: Node | None,
        work: Callable[..., None],
        *args: Any,
    ) -> None:
        """Do something then; not if its node has crashed, later if it is paused."""
        entry = (when, next(self._order), whose, work, args)
        heapq.heappush(self._events, entry)

    def to_postgres(self, node: Node, arrives: Callable[[], None]) -> None:
        self.at(
            self.now + 0.001 + 0.004 * self.random(), None, self._pass, node, arrives
        )

    def _pass(self, node: Node, arrives: Callable[[], None]) -> None:
        if node.cut_until > self.now:
            # The kernel sends again.
            self.at(node.cut_until + 0.001, None, self._pass, node, arrives)
        else:
            arrives()

    def to_node(
        self,
        node: Node,
        arrives: Callable[[Any], Any],
        what: Any,
        delay: float = 0.0,
    ) -> None:
        when = self.now + delay + 0.001 + 0.004 * self.random()
        self.at(when, node, self._arrive, node, arrives, what)

    def _arrive(self, node: Node, arrives: Callable[[Any], Any], what: Any) -> None:
        if node.cut_until > self.now:
            self.at(node.cut_until + 0.001, node, self._arrive, node, arrives, what)
        else:
            arrives(what)

    def run(self) -> None:
        """All of it.

        Raises:
            Violation: an invariant does not hold.
        """
        for node in self.nodes:
            self._beat(node)
            self.at(self.uniform(0.0, 0.2), node, node.feed, TICK)
        for _ in range(CLIENTS):
            self.at(self.uniform(0.2, 0.5), None, self._next_operation)
        for _ in range(2 + int(3 * self.random())):
            self.at(self.uniform(0.3, FAULTY_SECONDS), None, self._fault)
        self.at(FAULTY_SECONDS, None, self._heal)
        events = self._events
        while events:
            self.now, _, whose, work, args = heapq.heappop(events)
            if whose is not None:
                if whose.dead:
                    continue
                if whose.paused_until > self.now:
                    self.at(whose.paused_until, whose, work, *args)
                    continue
            work(*args)
            if self.violation is not None:
                raise Violation(self.violation)
            if len(self._served_since) == SHARDS:
                return

    # --- workers

    def _new_node(self) -> Node:
        # Few ids: what placement draws for them is remembered.
        return Node(self, next(self._numbers))

    def _beat(self, node: Node) -> None:
        self.beats[node.id] = self.now
        self.at(self.now + LEASE / 4, node, self._beat, node)

    def live(self) -> list[WorkerRow]:
        present = {session.owner for session in self.postgres.sessions}
        draining = {node.id for node in self.nodes if node.draining}
        return [
            WorkerRow(id=node, present=node in present, draining=node in draining)
            for node, beat in self.beats.items()
            if node is not None and beat > self.now - LEASE
        ]

    def served(self, claim: Claim) -> None:
        """A node lets events in under a claim."""
        before = self.serving.get(claim.shard)
        if before is None or claim.epoch > before.epoch:
            self.serving[claim.shard] = claim

    # --- clients

    def _next_operation(self) -> None:
        ended = False

        def on_end(served: bool) -> None:
            nonlocal ended
            if not ended:
                ended = True
                if served and self._healed:
                    self._served_since.add(operation.shard)
                wait = self.uniform(0.02, 0.25)
                self.at(self.now + wait, None, self._next_operation)

        operation = Operation(self, next(self._operations), on_end)
        owner = self.postgres.rows[operation.shard].owner
        node = next((n for n in self.nodes if n.id == owner), None)
        if node is None or self.random() < 0.3:
            node = self.nodes[int(self.random() * len(self.nodes))]
        when = self.now + 0.001
        self.at(when, node, node.deliver, operation)
        # Its client gives up, and does something else; it may still be done.
        self.at(self.now + 1.0, None, on_end, False)

    # --- faults

    def _fault(self) -> None:
        node = self.nodes[int(self.random() * len(self.nodes))]
        kind = int(self.random() * 8)
        if kind == 0:
            self._crash(node)
        elif kind == 1:
            node.paused_until = self.now + LEASE * self.uniform(0.2, 1.6)
        elif kind == 2:
            node.cut_until = self.now + LEASE * self.uniform(0.1, 1.6)
        elif kind in (3, 4):
            sessions = self.postgres.sessions
            if sessions:
                self.postgres.kill(sessions[int(self.random() * len(sessions))])
                self._hint()
        elif kind == 5:
            self.postgres.restart()
        elif kind == 6:
            # It sleeps past its lease; when it wakes its successors lose theirs.
            node.paused_until = self.now + LEASE * self.uniform(1.1, 1.8)
            self.at(node.paused_until - 0.005, None, self._end_sessions)
        elif not node.draining:
            self.at(self.now, node, node.drain, lambda: self._replace(node))

    def _end_sessions(self) -> None:
        for session in list(self.postgres.sessions):
            self.postgres.kill(session)

    def _hint(self, lost: UUID | None = None) -> None:
        # A front end has seen that a link is gone.
        if self.random() < 0.7:
            for node in self.nodes:
                self.to_node(node, node.feed, steps.Woken(lost))

    def _crash(self, node: Node) -> None:
        node.dead = True
        lane = node.lane
        if lane is not None:
            ended = self.now + self.uniform(0.005, 0.05)
            self.at(ended, None, self.postgres.kill, lane.session)
            self.at(ended, None, self._hint, node.id)
        self._replace(node)

    def _replace(self, node: Node) -> None:
        if node not in self.nodes:
            return
        if not node.dead:
            self.beats.pop(node.id, None)
            node.dead = True
            if node.lane is not None:
                self.postgres.kill(node.lane.session)
        other = self._new_node()
        self.nodes[self.nodes.index(node)] = other
        started = self.now + self.uniform(0.05, 0.5)
        self.at(started, other, self._beat, other)
        self.at(started, other, other.feed, TICK)

    def _heal(self) -> None:
        for node in self.nodes:
            node.cut_until = min(node.cut_until, self.now)
            node.paused_until = min(node.paused_until, self.now)
        self._healed = True
        self.at(self.now + LEASE + 5.0, None, self._must_be_served)

    def _must_be_served(self) -> None:
        missing = set(range(SHARDS)) - self._served_since
        self.violated("I7", f"shards {missing} are not served")
