"""Postgres as the protocol knows it: session locks, epoch rows, late backends.

Each statement is one step of virtual time. What is committed stays, whether or not
anybody hears of it; a session's locks go with it, never before its statement has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.ownership_steps import ClaimedShard

if TYPE_CHECKING:
    from durable.domain.writes import Claim, WriteSet
    from tests.simulation.world import World

LOG = ("user", "log")


@dataclass(eq=False)
class Session:
    """A lane's session; the server ends it when it is idle for T."""

    owner: UUID
    killed: Callable[[], None]
    heard: float
    alive: bool = True


@dataclass
class Row:
    """A row of ``durable.shard``, and the fence lock's shared holders."""

    epoch: int = 0
    claim_id: UUID | None = None
    owner: UUID | None = None
    changed_at: float = 0.0
    writers: int = 0
    drains: list[Callable[[], None]] = field(default_factory=list)


class Stale(Exception):
    """A commit under a claim that is no longer the shard's."""


class Postgres:
    """Locks, rows, and each object's committed log."""

    def __init__(self, world: World, shards: int) -> None:
        self.world = world
        self.rows = [Row() for _ in range(shards)]
        self.locks: dict[int, Session] = {}
        self.logs: dict[int, str] = {}
        self.sessions: list[Session] = []
        self.started = -1e9
        self._claims = 0

    # --- sessions

    def connect(self, owner: UUID, killed: Callable[[], None]) -> Session:
        session = Session(owner, killed, self.world.now)
        self.sessions.append(session)
        self._watch(session)
        return session

    def _watch(self, session: Session) -> None:
        if not session.alive:
            return
        ends = session.heard + self.world.lease
        if ends <= self.world.now:
            self.kill(session)
        else:
            self.world.at(ends, None, self._watch, session)

    def kill(self, session: Session) -> None:
        """The locks are free at once; the client hears of it some time."""
        if session.alive:
            session.alive = False
            self.sessions.remove(session)
            for shard in [s for s, held in self.locks.items() if held is session]:
                del self.locks[shard]
            session.killed()

    def restart(self) -> None:
        """All sessions end."""
        self.started = self.world.now
        for session in list(self.sessions):
            self.kill(session)

    # --- statements on a lane

    def lock(self, session: Session, shards: list[int]) -> list[int]:
        return [s for s in shards if self.locks.setdefault(s, session) is session]

    def unlock(self, session: Session, shards: list[int]) -> None:
        for shard in shards:
            if self.locks.get(shard) is session:
                del self.locks[shard]

    def claim(self, session: Session, shards: list[int]) -> list[ClaimedShard]:
        claimed = []
        for shard in shards:
            row = self.rows[shard]
            if row.writers or self._is_kept(row, session.owner):
                continue
            before, released = row.claim_id, row.owner is None
            self._claims += 1
            row.epoch += 1
            row.claim_id = UUID(int=self._claims)
            row.owner, row.changed_at = session.owner, self.world.now
            claimed.append(
                ClaimedShard(shard, row.epoch, row.claim_id, released, before)
            )
        return claimed

    def _is_kept(self, row: Row, owner: UUID) -> bool:
        # After a restart the previous owner comes first, if it was alive.
        return (
            self.world.now < self.started + self.world.lease
            and row.owner not in (None, owner)
            and row.changed_at < self.started
            and self.world.beats.get(row.owner, -1e9) > self.started - self.world.lease
        )

    def release(self, session: Session, claims: list[Claim]) -> None:
        for claim in claims:
            row = self.rows[claim.shard]
            if row.claim_id == claim.claim_id:
                row.owner, row.changed_at = None, self.world.now
        self.unlock(session, [claim.shard for claim in claims])

    def commit(self, batch: list[tuple[Any, Claim, WriteSet]]) -> None:
        for _, claim, _ in batch:
            self._check(claim)
        for source, claim, writes in batch:
            self._apply(source.object_id.int, claim, writes)

    # --- off the lane

    def begin(self, claim: Claim) -> None:
        """Take the fence lock shared, then check."""
        self._check(claim)
        self.rows[claim.shard].writers += 1

    def end(self, object_id: int, claim: Claim, writes: WriteSet) -> None:
        row = self.rows[claim.shard]
        row.writers -= 1
        self._apply(object_id, claim, writes)
        if not row.writers:
            drains, row.drains = row.drains, []
            for drained in drains:
                drained()

    def drain(self, shard: int, drained: Callable[[], None]) -> None:
        """Call when nobody holds the fence lock."""
        if self.rows[shard].writers:
            self.rows[shard].drains.append(drained)
        else:
            drained()

    def free(self) -> list[tuple[int, UUID | None]]:
        return [
            (shard, row.owner)
            for shard, row in enumerate(self.rows)
            if shard not in self.locks
        ]

    def _check(self, claim: Claim) -> None:
        row = self.rows[claim.shard]
        if row.epoch != claim.epoch or row.claim_id != claim.claim_id:
            raise Stale

    def _apply(self, object_id: int, claim: Claim, writes: WriteSet) -> None:
        if LOG not in writes.rows:
            return
        after = writes.rows[LOG]
        assert isinstance(after, str)
        before = self.logs.get(object_id, "")
        if not after.startswith(before):
            self.world.violated(
                "I2", f"a commit of object {object_id} replaced {before!r} by {after!r}"
            )
        if claim.epoch < self.rows[claim.shard].epoch:
            self.world.violated("I1", f"a commit of the former epoch {claim}")
        self.logs[object_id] = after
