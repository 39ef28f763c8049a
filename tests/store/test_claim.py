"""Claims on Postgres: what they replaced, and who comes first after a restart."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from durable.store import registry
from durable.store.database import Database
from tests.store.lanes import OWNER, opened, session

FORMER = UUID(int=2)
# In seconds: the tests' Postgres has been started within this time.
GRACE = 1e6
_CLAIM = "SELECT id FROM durable.claim($1, $2, $3)"
_OLD = """
UPDATE durable.shard
SET owner = $1, changed_at = pg_postmaster_start_time() - interval '1 s'
WHERE id <= 3
"""


async def test_a_claim_tells_the_claim_id_that_it_replaced(database_url: str) -> None:
    async with opened(database_url) as place:
        (first,) = await place.lane.claim([1], OWNER)
        assert first.before is None
        (second,) = await place.lane.claim([1], OWNER)
        assert second.before == first.claim_id
        assert second.epoch == first.epoch + 1


async def _after_restart(database_url: str, *, address: str | None) -> Any:
    async with session(database_url) as admin:
        async with Database(database_url, limit=5, size=1, name="test") as database:
            await registry.join(database, OWNER, "mine", "0")
            if address is not None:
                await registry.join(database, FORMER, address, "0")
        await admin.execute(_OLD, FORMER)
        await admin.execute("UPDATE durable.shard SET owner = NULL WHERE id = 3")
        others = await admin.fetch(_CLAIM, [1, 2, 3], OWNER, GRACE)
        return [row[0] for row in others]


async def test_after_a_restart_only_the_previous_owner_gets_a_shard_for_a_while(
    database_url: str,
) -> None:
    assert await _after_restart(database_url, address="theirs") == [3]
    async with session(database_url) as admin:
        rows = await admin.fetch(_CLAIM, [1, 2, 3], FORMER, GRACE)
        assert [row[0] for row in rows] == [1, 2, 3], "3 was claimed after the restart"
        rows = await admin.fetch(_CLAIM, [1, 2], OWNER, 0.0)
        assert [row[0] for row in rows] == [1, 2], "the grace is over"


@pytest.mark.parametrize("address", [None, "mine"])
async def test_an_owner_that_was_gone_before_the_restart_holds_nobody_up(
    database_url: str, address: str | None
) -> None:
    """Or one whose address has a new node: it is its successor."""
    assert await _after_restart(database_url, address=address) == [1, 2, 3]


async def test_a_lane_says_that_its_worker_is_present(database_url: str) -> None:
    async with Database(database_url, limit=5, size=1, name="test") as database:
        worker = UUID("ffffffff-0000-4000-8000-000000000001")
        await registry.join(
            database, worker, "a:1", "0", weight=2.0, role="worker", labels=["x"]
        )
        (row,) = await registry.live(database, 60)
        assert not row.present
        async with opened(database_url) as place:
            # As the worker's own lane would.
            bits = int.from_bytes(worker.bytes[:4], signed=True)
            await place.lane._errand(
                lambda: place.lane._connection.fetchval(
                    "SELECT pg_try_advisory_lock_shared(17492, $1)", bits
                )
            )
            (row,) = await registry.live(database, 60)
            assert row.present
            assert (row.weight, row.role, row.labels) == (2.0, "worker", ("x",))
            assert not row.draining
            await registry.drain(database, worker)
            (row,) = await registry.live(database, 60)
            assert row.draining
            assert not row.may_own


async def test_what_nobody_has_locked_is_free_with_the_owner_of_its_row(
    database_url: str,
) -> None:
    async with Database(database_url, limit=5, size=1, name="test") as database:
        async with opened(database_url) as place:
            claims = await place.claim(1, 2)
            free = dict(await registry.free_shards(database))
            assert 1 not in free
            assert free[3] is None
            await place.lane.release(claims[:1])
            assert dict(await registry.free_shards(database))[1] is None
        free = dict(await registry.free_shards(database))
        assert free[2] == OWNER, "it wasn't released"
