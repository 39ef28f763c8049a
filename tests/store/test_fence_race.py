"""The fence in two sessions, raced both ways; guards that look right are broken by it.

Each guard replaces `durable.fence` in the test's own database, and the same race finds
a write of a former owner that commits after the claim of the next one.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.store.lanes import OWNER, session

SHARD = 5
NEXT = UUID(int=2)
_CLAIM = "SELECT id, epoch, claim_id FROM durable.claim($1, $2)"
_FENCE = "SELECT durable.fence($1, $2, $3)"
# Where the former owner waits in the server, it is behind the claim, as it should be.
_WAITS = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
_GUARD = """
CREATE OR REPLACE FUNCTION durable.fence(p_shard integer, p_epoch bigint, p_claim uuid)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, durable AS $$
BEGIN
    PERFORM 1 {check};
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stale' USING ERRCODE = 'DF001';
    END IF;
END $$
"""
_OWNED = "s.id = p_shard AND s.epoch = p_epoch AND s.claim_id = p_claim"
GUARDS = {
    "exists": f"WHERE EXISTS (SELECT FROM durable.shard s WHERE {_OWNED})",
    "for key share": f"FROM durable.shard s WHERE {_OWNED} FOR KEY SHARE",
    "one statement": (
        "FROM (SELECT pg_advisory_xact_lock_shared(17490, p_shard) OFFSET 0) l, "
        f"durable.shard s WHERE {_OWNED}"
    ),
}


async def _write(former: asyncpg.Connection, claim: Any) -> bool:
    """A write off the lane under an old claim; whether it passed its guard."""
    try:
        async with former.transaction():
            await former.execute(_FENCE, *claim)
            await former.execute("INSERT INTO written VALUES (1)")
    except asyncpg.PostgresError as error:
        if error.sqlstate != "DF001":
            raise
        return False
    return True


async def _settled(admin: Any, pid: int, writing: asyncio.Task[bool]) -> None:
    """Return when the write has ended, or waits for a lock."""
    async with asyncio.timeout(10):
        while not (  # noqa: ASYNC110  # another process
            writing.done() or await admin.fetchval(_WAITS, pid)
        ):
            await asyncio.sleep(0)


async def violations(database_url: str) -> list[str]:
    """What goes wrong when a claim and a write of the former owner overlap."""
    found: list[str] = []
    async with (
        session(database_url) as admin,
        session(database_url) as former,
        session(database_url) as claimer,
    ):
        await admin.execute("CREATE TABLE written (n int)")
        (first,) = await claimer.fetch(_CLAIM, [SHARD], OWNER)
        async with former.transaction():
            await former.execute(_FENCE, *first)
            if await claimer.fetch(_CLAIM, [SHARD], NEXT):
                found.append("claimed over a writer that hasn't ended")
        (first,) = await claimer.fetch(_CLAIM, [SHARD], OWNER)
        pid = await former.fetchval("SELECT pg_backend_pid()")
        async with claimer.transaction():
            assert await claimer.fetch(_CLAIM, [SHARD], NEXT)
            writing = asyncio.create_task(_write(former, first))
            await _settled(admin, pid, writing)
        if await writing:
            found.append("written under a claim that was replaced")
    return found


async def test_a_former_owner_and_a_claim_never_overlap(database_url: str) -> None:
    assert await violations(database_url) == []


@pytest.mark.parametrize("guard", GUARDS)
async def test_a_guard_that_only_looks_right_is_found(
    database_url: str, guard: str
) -> None:
    async with session(database_url) as admin:
        await admin.execute(_GUARD.format(check=GUARDS[guard]))
    assert await violations(database_url) != []
