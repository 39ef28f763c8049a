"""A shard in an operator's hands, for one command, under the rules of every worker.

A command that writes takes the shard's session lock on a lane of its own (Postgres
ends it if the command hangs), claims the shard, so that a former owner's late writes
are refused, and waits W if that owner didn't release. A shard whose lock a live worker
holds is not taken: its agents may be in memory there, and would never hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from durable.domain.clock import boottime
from durable.domain.errors import DurableError
from durable.domain.writes import Claim
from durable.store.lane import Lane

if TYPE_CHECKING:
    from durable.store.database import Database

log = logging.getLogger(__name__)

_HOLDER = """
SELECT owner, owner_address, held FROM durable.shard_owner WHERE shard = $1
"""


class ShardTaken(DurableError):
    """A live worker owns the shard; the text says which, and what to do."""


@asynccontextmanager
async def claimed_shard(
    dsn: str, database: Database, shard: int, *, lease: float, freshness: float
) -> AsyncIterator[Claim]:
    """Own a shard inside the block; released, and free for workers, afterwards.

    Raises:
        ShardTaken: its lock is held, or a former owner's write is still running.
        Unavailable: Postgres can't be reached.
    """
    lane = Lane(
        dsn,
        database,
        lease=lease,
        freshness=freshness,
        clock=boottime,
        name="durable operator",
        on_lost=_lost,
        on_alarm=_no_alarms,
    )
    try:
        await lane.open()
        claimed = await lane.claim([shard], uuid4())
        if not claimed:
            raise await _taken(database, shard)
        row = claimed[0]
        if not row.released:
            # The former owner may still believe itself fresh: outwait that.
            await asyncio.sleep(freshness)
        claim = Claim(shard, row.epoch, row.claim_id)
        try:
            yield claim
        finally:
            if lane.lost is None:
                await lane.release([claim])
    finally:
        await lane.close()


async def _taken(database: Database, shard: int) -> ShardTaken:
    rows: list[Any] = await database.fetch(_HOLDER, shard)
    owner, address, held = rows[0] if rows else (None, None, False)
    if not held:
        return ShardTaken(
            f"a write of the former owner of shard {shard} is still running, or the "
            "shard is just being claimed: try again"
        )
    return ShardTaken(
        f"shard {shard} belongs to the live worker {_shown(owner, address)}: what it "
        "has in memory would not change, and might be written over yours. Call the "
        "agent instead, or stop the nodes first"
    )


def _shown(owner: UUID | None, address: str | None) -> str:
    return f"{address or 'without an address'} ({owner})"


def _no_alarms(_: int, __: UUID, ___: object) -> None:
    """Whoever claims the shard next reads its alarms."""


def _lost(error: Exception) -> None:
    # Whoever has claimed the shard since then refuses our commit by its fence.
    log.warning("the claim of the shard is lost", extra={"reason": str(error)})
