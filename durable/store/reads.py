"""Committed rows of objects, read from a pool.

Activations that start together are read together, as commits are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.alarms import Alarm
from durable.domain.errors import DurableError
from durable.domain.ports import KeyRange, Loaded
from durable.store.database import Database
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.writes import Slot, Stored

# An activation's first read brings at most so many rows and bytes of an object.
LOAD_ROWS = 64
LOAD_BYTES = 262_144
MAX_BATCH = 256

_LOAD = """
SELECT w.ord, o.id IS NOT NULL AS known, o.name, o.sql_schema,
       k.space, k.key, k.value::text, k.blob, k.found,
       extract(epoch FROM a.due)::float8, a.failures, coalesce(r.wakes, 0)
FROM unnest($1::int[], $2::uuid[]) WITH ORDINALITY AS w (shard, id, ord)
LEFT JOIN durable.object o ON o.shard = w.shard AND o.id = w.id
LEFT JOIN durable.alarm a ON a.shard = w.shard AND a.object = w.id
LEFT JOIN durable.trial r ON r.shard = w.shard AND r.object = w.id
LEFT JOIN LATERAL (
    SELECT *, count(*) OVER () AS found, row_number() OVER rows AS number,
           sum(coalesce(pg_column_size(f.value), pg_column_size(f.blob))) OVER rows
               AS bytes
    FROM (SELECT * FROM durable.kv t WHERE t.shard = w.shard AND t.object = w.id
          ORDER BY t.space, t.key LIMIT $3 + 1) f
    WINDOW rows AS (ORDER BY f.space, f.key ROWS UNBOUNDED PRECEDING)
) k ON o.id IS NOT NULL AND k.number <= $3 AND (k.number = 1 OR k.bytes <= $4)
"""
_GET = """
SELECT key, value::text, blob FROM durable.kv
WHERE shard = $1 AND object = $2 AND space = $3 AND key = ANY ($4::text[])
"""
_SCAN = """
SELECT key, value::text, blob FROM durable.kv
WHERE shard = $1 AND object = $2 AND space = $3
  AND key >= $4 AND ($5::text IS NULL OR key < $5) ORDER BY key LIMIT $6
"""
# Keys and values count as the view durable.agents counts them, tables as Postgres does,
# with their indexes.
_SIZE = """
SELECT (SELECT coalesce(sum(octet_length(key)
            + coalesce(octet_length(value::text), octet_length(blob))), 0)
        FROM durable.kv WHERE shard = $1 AND object = $2)
     + (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $3::text AND c.relkind IN ('r', 'm'))
"""
# Writers off the lane hold the fence lock, shared, until their transaction ends.
_DRAIN = "SELECT pg_advisory_xact_lock(17490, $1)"
_SCAN_REVERSE = _SCAN.replace("ORDER BY key", "ORDER BY key DESC")


class Reads:
    """The Reader of all activations of a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[int, UUID, asyncio.Future[Loaded]]] = []
        self._scope = TaskScope("reads")
        self._loading = False

    async def close(self) -> None:
        """Stop reading; activations that wait for it get nothing."""
        await self._scope.close()

    async def load(self, shard: int, object_id: UUID) -> Loaded:
        """An object's row and its first entries."""
        loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._waiting.append((shard, object_id, loaded))
        if not self._loading:
            self._loading = True
            # What else starts in this turn of the loop comes along.
            self._scope.start(self._load_waiting())
        return await loaded

    async def get(
        self, shard: int, object_id: UUID, space: str, keys: Sequence[str]
    ) -> dict[str, Stored]:
        """The rows of some keys."""
        rows = await self._database.fetch(_GET, shard, object_id, space, list(keys))
        return {key: _stored(value, blob) for key, value, blob in rows}

    async def scan(
        self, shard: int, object_id: UUID, space: str, key_range: KeyRange
    ) -> dict[str, Stored]:
        """The rows of a range of keys, in its order."""
        rows = await self._database.fetch(
            _SCAN_REVERSE if key_range.reverse else _SCAN,
            shard,
            object_id,
            space,
            key_range.start,
            key_range.end,
            key_range.limit,
        )
        return {key: _stored(value, blob) for key, value, blob in rows}

    async def size(self, shard: int, object_id: UUID, schema: str | None) -> int:
        """Bytes of all that an object has, as committed."""
        ((size,),) = await self._database.fetch(_SIZE, shard, object_id, schema)
        return int(size)

    async def drain(self, shard: int) -> None:
        """Return when no writer off the lane is at work in the shard any more.

        After a commit whose outcome is unknown: its backend may still be at it.
        """
        await self._database.fetch(_DRAIN, shard)

    async def _load_waiting(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MAX_BATCH]
                del self._waiting[:MAX_BATCH]
                await self._load(batch)
        finally:
            self._loading = False

    async def _load(
        self, batch: list[tuple[int, UUID, asyncio.Future[Loaded]]]
    ) -> None:
        try:
            rows = await self._database.fetch(
                _LOAD,
                [shard for shard, _, _ in batch],
                [object_id for _, object_id, _ in batch],
                LOAD_ROWS,
                LOAD_BYTES,
            )
        except DurableError as error:
            for _, _, loaded in batch:
                if not loaded.done():
                    loaded.set_exception(error)
            return
        found: dict[int, list[Any]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(row)
        for number, (_, _, loaded) in enumerate(batch, 1):
            if not loaded.done():
                loaded.set_result(_loaded(found[number]))


def _loaded(rows: list[Any]) -> Loaded:
    first = rows[0]
    entries: dict[Slot, Stored] = {
        (row[4], row[5]): _stored(row[6], row[7]) for row in rows if row[4] is not None
    }
    return Loaded(
        exists=first[1],
        name=first[2],
        sql_schema=first[3],
        rows=entries,
        complete=(first[8] or 0) == len(entries),
        alarm=None if first[9] is None else Alarm(first[9], first[10]),
        wakes=first[11],
    )


def _stored(value: str | None, blob: bytes | None) -> Stored:
    return value if value is not None else blob or b""
