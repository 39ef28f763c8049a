"""What nodes share: who works here, who owns which shard."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from durable.store.database import Database

_JOIN = """
INSERT INTO durable.worker (id, address, version) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET address = $2, version = $3, draining = false
"""
_BEAT = "UPDATE durable.worker SET beat = clock_timestamp() WHERE id = $1"
_LEAVE = "DELETE FROM durable.worker WHERE id = $1"
# A worker that has been silent for so long is gone; its row is only for show. But one
# that may claim no more might just sleep: the row is what holds it back.
_FORGET = """
DELETE FROM durable.worker WHERE beat < clock_timestamp()
    - CASE WHEN stale IS NULL THEN interval '1 hour' ELSE interval '30 days' END
"""
_OWNER = """
SELECT w.address FROM durable.shard s JOIN durable.worker w ON w.id = s.owner
WHERE s.id = $1
"""


async def join(database: Database, worker: UUID, address: str, version: str) -> None:
    """Make a worker known; forget those that left without a word."""
    await database.fetch(_FORGET)
    await database.fetch(_JOIN, worker, address, version)


async def beat(database: Database, worker: UUID) -> None:
    """Say that a worker is there. For operators: ownership doesn't look at it."""
    await database.fetch(_BEAT, worker)


async def leave(database: Database, worker: UUID) -> None:
    """Remove a worker that has released its shards."""
    await database.fetch(_LEAVE, worker)


async def owner_address(database: Database, shard: int) -> str | None:
    """Where the worker is that owns a shard, if anybody does."""
    rows = await database.fetch(_OWNER, shard)
    return rows[0][0] if rows else None
