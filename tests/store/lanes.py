"""Lanes on a real Postgres, and objects that are nothing but a write set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from durable.domain.clock import Clock, boottime
from durable.domain.writes import Claim, ObjectRow, Slot, Stored, WriteSet
from durable.store.database import Database
from durable.store.lane import Lane

OWNER = UUID(int=1)


@dataclass
class Source:
    """A Committable that has one write set to give and remembers what became of it."""

    claim: Claim
    rows: dict[Slot, Stored | None]
    object_id: UUID = field(default_factory=uuid4)
    wipe: bool = False
    result: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    _given: bool = False

    def take_writes(self) -> WriteSet | None:
        if self._given:
            return None
        self._given = True
        self.taken.set()
        return write_set(self.rows, wipe=self.wipe)

    def committed(self) -> None:
        self.result.set_result(None)

    def commit_failed(self, error: Exception) -> None:
        self.result.set_exception(error)


def write_set(rows: dict[Slot, Stored | None], *, wipe: bool = False) -> WriteSet:
    writes = WriteSet()
    writes.create = ObjectRow(7, "name")
    writes.wipe = wipe
    for slot, value in rows.items():
        if value is None:
            writes.delete(slot)
        else:
            writes.put(slot, value)
    return writes


class Opened:
    """A lane, its database and what it told of its end."""

    def __init__(self, lane: Lane, database: Database, lost: list[Exception]) -> None:
        self.lane = lane
        self.database = database
        self.lost = lost

    async def claim(self, *shards: int) -> list[Claim]:
        rows = await self.lane.claim(list(shards), OWNER)
        return [Claim(row.shard, row.epoch, row.claim_id) for row in rows]

    async def kv(self) -> dict[tuple[UUID, str], Stored]:
        rows = await self.database.fetch(
            "SELECT object, key, value::text, blob FROM durable.kv"
        )
        return {(row[0], row[1]): row[2] or row[3] for row in rows}


@asynccontextmanager
async def opened(
    dsn: str,
    *,
    lease: float = 10.0,
    freshness: float = 0.3,
    clock: Clock = boottime,
    name: str = "test lane",
) -> AsyncIterator[Opened]:
    """Open a database and a lane on it."""
    lost: list[Exception] = []
    async with Database(dsn, limit=lease, size=4, name="test reads") as database:
        lane = Lane(
            dsn,
            database,
            lease=lease,
            freshness=freshness,
            clock=clock,
            name=name,
            on_lost=lost.append,
            on_alarm=lambda *_: None,
        )
        await lane.open()
        try:
            yield Opened(lane, database, lost)
        finally:
            await lane.close()


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Any]:
    """An operator's connection."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def terminate(dsn: str, name: str = "test lane") -> None:
    """End the lane's session from outside."""
    async with session(dsn) as admin:
        ended = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = $1",
            name,
        )
        assert ended == 1


async def until(happens: Callable[[], Awaitable[Any]], seconds: float = 10) -> None:
    """Ask again until it is so: what another process does can't be awaited."""
    async with asyncio.timeout(seconds):
        while True:
            if await happens():
                return
            await asyncio.sleep(0.01)


async def somebody_waits(connection: Any) -> bool:
    """Whether a session waits for a lock."""
    return bool(await connection.fetch("SELECT FROM pg_locks WHERE NOT granted"))
