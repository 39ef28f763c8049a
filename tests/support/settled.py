"""A fleet that has shared its shards: nothing is to move any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg

from durable.domain.placement import Placement, WorkerRow

# Two workers share 1,024 shards within 16 s, 32 a second, if one of them has had all.
LIMIT_SECONDS = 60.0


@contextmanager
def nobody_claims(database_url: str) -> Iterator[None]:
    """Workers that start in this block claim nothing before its end.

    Then each takes its own, and nothing need be moved.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(17489, id) FROM durable.shard")
        yield


def wait_until_settled(database_url: str, workers: int) -> None:
    """Return when each shard is with the one of ``workers`` workers that it should be.

    What is moved in the middle of a handler is cut off in time, as it should be; a test
    of something else must not meet it.
    """
    until = time.monotonic() + LIMIT_SECONDS
    with psycopg.connect(database_url, autocommit=True) as connection:
        while misplaced := _misplaced(connection, workers):
            if time.monotonic() > until:
                raise TimeoutError(f"{misplaced} shards are not where they should be")
            time.sleep(0.05)  # other processes


def _misplaced(connection: psycopg.Connection, workers: int) -> int:
    # Rows of workers that were killed are still there: they have no lane.
    rows = connection.execute(
        "SELECT w.id, w.weight FROM durable.worker w JOIN pg_locks l ON"
        " l.locktype = 'advisory' AND l.classid = 17492 AND l.granted AND"
        " l.objid = ('x' || left(w.id::text, 8))::bit(32)::bigint::oid"
        " WHERE w.role <> 'front'"
    ).fetchall()
    shards = connection.execute("SELECT id, owner FROM durable.shard").fetchall()
    if len(rows) != workers:
        return len(shards)
    owners = [WorkerRow(id=UUID(str(id)), weight=weight) for id, weight in rows]
    wish = Placement.of(len(shards), owners)
    return sum(wish.preferred(shard) != owner for shard, owner in shards)
