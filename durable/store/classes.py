"""The classes of a database: made, renamed, given to another app, deleted.

A class is a namespace: a tag, which every id of its objects begins with, an app and a
name. Renaming and transferring change the latter two, so every object and id stays.
Deleting dooms a class, which frees its name at once; ``purge`` then removes its rows
in batches and can be repeated whenever it was interrupted.

Whoever changes classes holds ``alone``, whoever starts a worker holds ``together``
while it checks them and says what it serves: neither can overlook the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

# At most so many rows go in one transaction.
PURGE_ROWS = 5000

_CLASS = "SELECT app, name, tag, doomed_at IS NOT NULL FROM durable.namespace"
_LISTED = f"{_CLASS} ORDER BY app, name, tag"
_FIND = f"{_CLASS} WHERE app = $1 AND name = $2 AND doomed_at IS NULL"
_CREATE = """
INSERT INTO durable.namespace (tag, app, name) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
"""
_MOVE = "UPDATE durable.namespace SET app = $2, name = $3 WHERE tag = $1"
_DOOM = "UPDATE durable.namespace SET doomed_at = now() WHERE tag = $1"
_FORGET = """
DELETE FROM durable.namespace n WHERE n.tag = $1 AND n.doomed_at IS NOT NULL
AND NOT EXISTS (SELECT FROM durable.object o WHERE o.tag = n.tag)
"""
_USED = """
SELECT t FROM unnest($1::bigint[]) t
WHERE EXISTS (SELECT FROM durable.object o WHERE o.tag = t)
"""
_OBJECTS = """
SELECT count(*), count(sql_schema) FROM durable.object WHERE tag = $1
"""
_KEYS = """
SELECT coalesce(sum(k.rows), 0)::bigint, coalesce(sum(k.bytes), 0)::bigint
FROM durable.shard s CROSS JOIN LATERAL (
    SELECT count(*) AS rows, sum(pg_column_size(v.*)) AS bytes FROM durable.kv v
    WHERE v.shard = s.id
      AND v.object BETWEEN durable.first_id($1) AND durable.last_id($1)
) k
"""
_SERVERS = """
SELECT id, address, held, extract(epoch FROM clock_timestamp() - beat)::float8
FROM durable.worker_status
WHERE live AND stale IS NULL AND (serves IS NULL OR $1 = ANY (serves))
ORDER BY address
"""
_STALE = """
UPDATE durable.worker SET stale = $2
WHERE stale IS NULL AND (serves IS NULL OR $1 = ANY (serves))
"""
_WHY_STALE = "SELECT stale FROM durable.worker WHERE id = $1"
_ANNOUNCE = """
INSERT INTO durable.worker (id, address, version, serves) VALUES ($1, $2, $3, $4)
"""
_APPLIED = """
SELECT tag, steps::text FROM durable.class_migration WHERE app = $1 ORDER BY number
"""
_RECORD = """
INSERT INTO durable.class_migration (app, tag, steps) VALUES ($1, $2, $3)
"""
_ALONE = "SELECT pg_advisory_xact_lock(17491, 2)"
_TOGETHER = "SELECT pg_advisory_xact_lock_shared(17491, 2)"
_PURGE_LOCK = "SELECT pg_try_advisory_lock(17491, 3)"
_PURGE_UNLOCK = "SELECT pg_advisory_unlock(17491, 3)"


@dataclass(frozen=True, slots=True)
class StoredClass:
    """A class as the database knows it; ``doomed``: its rows are going."""

    app: str
    name: str
    tag: int
    doomed: bool


@dataclass(frozen=True, slots=True)
class ClassSize:
    """What a class has stored. ``schemas``: objects with SQL tables of their own."""

    objects: int
    schemas: int
    keys: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Serving:
    """A live worker that serves a class. ``held``: the shards whose locks it has."""

    worker: UUID
    address: str
    held: int
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """The row of a worker that is about to start."""

    worker: UUID
    address: str
    version: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A class migration that was applied, and the steps it had then."""

    tag: str
    steps: Any


@asynccontextmanager
async def alone(connection: Any) -> AsyncIterator[None]:
    """A transaction that changes classes: no other, and no worker starting."""
    async with connection.transaction():
        await connection.execute(_ALONE)
        yield


@asynccontextmanager
async def together(connection: Any) -> AsyncIterator[None]:
    """A transaction in which a worker starts: no class changes meanwhile."""
    async with connection.transaction():
        await connection.execute(_TOGETHER)
        yield


async def listed(connection: Any) -> list[StoredClass]:
    """Every class, the doomed ones too."""
    return [StoredClass(*row) for row in await connection.fetch(_LISTED)]


async def find(connection: Any, app: str, name: str) -> StoredClass | None:
    """The class of this name, if there is one that isn't doomed."""
    row = await connection.fetchrow(_FIND, app, name)
    return None if row is None else StoredClass(*row)


async def make(connection: Any, app: str, names: Sequence[str]) -> dict[str, int]:
    """The tag of each name; a class that is new gets one, for ever."""
    tags: dict[str, int] = {}
    for name in names:
        found = await find(connection, app, name)
        while found is None:
            # Tags are 32 bits of chance: taken ones conflict, and are tried again.
            await connection.execute(_CREATE, secrets.randbits(32), app, name)
            found = await find(connection, app, name)
        tags[name] = found.tag
    return tags


async def move(connection: Any, tag: int, app: str, name: str) -> None:
    """Call a class something else, in the same app or in another one."""
    await connection.execute(_MOVE, tag, app, name)


async def doom(connection: Any, tag: int) -> None:
    """Delete a class: its name is free, its rows are left to ``purge``."""
    await connection.execute(_DOOM, tag)


async def used(connection: Any, tags: Sequence[int]) -> set[int]:
    """Those of the tags that have objects."""
    return {row[0] for row in await connection.fetch(_USED, list(tags))}


async def size(connection: Any, tag: int) -> ClassSize:
    """Counts what a class has; reads all its keys."""
    objects, schemas = await connection.fetchrow(_OBJECTS, tag)
    keys, stored = await connection.fetchrow(_KEYS, tag)
    return ClassSize(objects, schemas, keys, stored)


async def serving(connection: Any, tag: int) -> list[Serving]:
    """The live workers that serve a class, or may: see ``durable.worker_status``."""
    return [Serving(*row) for row in await connection.fetch(_SERVERS, tag)]


async def retire(connection: Any, tag: int, why: str) -> None:
    """Bar the workers that served a class from claiming shards ever again.

    For those that are suspended: who is dead doesn't mind, who lives was refused.
    """
    await connection.execute(_STALE, tag, why)


async def stale(connection: Any, worker: UUID) -> str | None:
    """Why a worker may claim no shards any more, if so."""
    why: str | None = await connection.fetchval(_WHY_STALE, worker)
    return why


async def announce(
    connection: Any, announcement: Announcement, tags: Sequence[int]
) -> None:
    """Say that a worker is about to start, and what it serves."""
    row = announcement
    await connection.execute(
        _ANNOUNCE, row.worker, row.address, row.version, list(tags)
    )


async def applied(connection: Any, app: str) -> list[Applied]:
    """The class migrations of an app that were applied, in that order."""
    rows = await connection.fetch(_APPLIED, app)
    return [Applied(tag, json.loads(steps)) for tag, steps in rows]


async def record(connection: Any, app: str, tag: str, steps: Any) -> None:
    """Write down that a class migration was applied."""
    await connection.execute(_RECORD, app, tag, json.dumps(steps))


async def purge(
    connection: Any,
    progress: Callable[[str], None],
    batch: int = PURGE_ROWS,
) -> bool:
    """Remove what is left of doomed classes, in batches; False: another one does.

    Needs a connection outside a transaction: each batch commits by itself.
    """
    if not await connection.fetchval(_PURGE_LOCK):
        return False
    try:
        for found in await listed(connection):
            if found.doomed:
                await _purge_class(connection, found, progress, batch)
    finally:
        if not connection.is_closed():
            await connection.fetchval(_PURGE_UNLOCK)
    return True


async def _purge_class(
    connection: Any, found: StoredClass, progress: Callable[[str], None], batch: int
) -> None:
    name = f"{found.name} ({found.app})"
    schemas = 0
    while await connection.fetchval("SELECT durable.purge_schema($1)", found.tag):
        schemas += 1
        if schemas % 100 == 0:
            progress(f"{name}: {schemas} SQL schemas removed so far")
    rows = 0
    purge_rows = "SELECT durable.purge_rows($1, $2)"
    while gone := await connection.fetchval(purge_rows, found.tag, batch):
        rows += gone
        if gone >= batch:
            progress(f"{name}: {rows} rows removed so far")
    await connection.execute(_FORGET, found.tag)
    progress(f"{name}: all is removed ({rows} rows, {schemas} SQL schemas)")
