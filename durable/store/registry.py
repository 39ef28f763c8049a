"""What nodes share: who works here, who owns which shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from durable.domain.placement import Role, WorkerRow

if TYPE_CHECKING:
    from durable.store.database import Database

_JOIN = """
INSERT INTO durable.worker
    (id, address, version, weight, role, link_address, labels)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET address = $2, version = $3, weight = $4, role = $5,
    link_address = $6, labels = $7, draining = false, beat = clock_timestamp()
"""
_BEAT = "UPDATE durable.worker SET beat = clock_timestamp() WHERE id = $1"
_DRAIN = "UPDATE durable.worker SET draining = $2 WHERE id = $1"
_LEAVE = "DELETE FROM durable.worker WHERE id = $1"
# A worker that has been silent for so long is gone; its row is only for show. But one
# that may claim no more might just sleep: the row is what holds it back.
_FORGET = """
DELETE FROM durable.worker WHERE beat < clock_timestamp()
    - CASE WHEN stale IS NULL THEN interval '1 hour' ELSE interval '30 days' END
"""
_SHARD_MAP = "SELECT s.id, s.owner FROM durable.shard s"
_LIVE = """
SELECT w.id, w.address, w.link_address, w.role, w.weight, w.draining,
    w.stale IS NOT NULL, w.labels, extract(epoch FROM w.started_at)::float8, EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = 17492 AND l.granted
          AND l.objid = ('x' || left(w.id::text, 8))::bit(32)::bigint::oid
          AND l.database = (
            SELECT d.oid FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database()))
FROM durable.worker w
WHERE w.beat > clock_timestamp() - make_interval(secs => $1) ORDER BY w.id
"""
_FREE = """
SELECT s.id, s.owner FROM durable.shard s WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.classid = 17489 AND l.objid = s.id::oid
      AND l.objsubid = 2 AND l.granted AND l.database = (
        SELECT d.oid FROM pg_catalog.pg_database d
        WHERE d.datname = pg_catalog.current_database()))
"""


async def link_secret(database: Database) -> str:
    """What nodes on one machine know each other by."""
    rows = await database.fetch("SELECT link_secret FROM durable.cluster")
    return str(rows[0][0])


async def join(
    database: Database,
    worker: UUID,
    address: str,
    version: str,
    *,
    weight: float = 1.0,
    role: Role = "both",
    link_address: str | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Make a worker known; forget those that left without a word."""
    await database.fetch(_FORGET)
    await database.fetch(
        _JOIN, worker, address, version, weight, role, link_address, list(labels)
    )


async def beat(database: Database, worker: UUID) -> None:
    """Say that a worker is there. Placement looks at it; ownership never does."""
    await database.fetch(_BEAT, worker)


async def drain(database: Database, worker: UUID, *, draining: bool = True) -> None:
    """Say that a worker gives its shards away: nobody wishes any for it any more.

    Itself neither: it hands them over as soon as it looks.
    """
    await database.fetch(_DRAIN, worker, draining)


async def leave(database: Database, worker: UUID) -> None:
    """Remove a worker that has released its shards."""
    await database.fetch(_LEAVE, worker)


async def live(database: Database, silent_seconds: float) -> list[WorkerRow]:
    """The nodes that said so within ``silent_seconds``, by the database's clock."""
    return [
        WorkerRow(
            id=row[0],
            address=row[1],
            link_address=row[2],
            role=row[3],
            weight=row[4],
            draining=row[5],
            stale=row[6],
            labels=tuple(row[7]),
            shares=row[2] is not None,
            since=row[8],
            present=row[9],
        )
        for row in await database.fetch(_LIVE, silent_seconds)
    ]


async def free_shards(database: Database) -> list[tuple[int, UUID | None]]:
    """(shard, owner of the row) of all that nobody holds the lock of: only a hint.

    The owner is None if it released the shard.
    """
    return [(row[0], row[1]) for row in await database.fetch(_FREE)]


async def shard_map(database: Database) -> list[tuple[int, UUID | None]]:
    """(shard, owner) of all; None where nobody owns it."""
    return [(row[0], row[1]) for row in await database.fetch(_SHARD_MAP)]
