"""Workers on a real Postgres, without a server around them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from durable import DurableObject, Env
from durable.domain.ids import shard_of
from durable.domain.placement import Role
from durable.objects.namespace import DurableObjectNamespace
from durable.routing.router import Router
from durable.routing.shard_map import ShardMap
from durable.store import registry
from durable.store.database import Database
from durable.testing.databases import SHARDS
from durable.worker.worker import ShardSeams, Worker, WorkerSettings

TAG = 7


class Timer:
    """Periodic work that is done when the test says so."""

    def __init__(self) -> None:
        self.work: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def every(
        self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self.work.append(work)


class NoSql:
    """These objects issue no SQL."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"SQL: {name}")


class Opened:
    def __init__(self, worker: Worker, things: Any, shard_map: ShardMap) -> None:
        self.worker = worker
        self.things = things
        self.shard_map = shard_map
        self.lane_name = f"durable lane {worker.settings.worker_id.hex[:12]}"

    def stub(self, name: str) -> Any:
        return self.things.get_by_name(name)

    def shard(self, name: str) -> int:
        return shard_of(self.things.id_from_name(name).value, SHARDS)


class Counter(DurableObject):
    """Counts in storage, over whatever else happens."""

    async def increment(self) -> int:
        count = (await self.ctx.storage.get("count") or 0) + 1
        self.ctx.storage.put("count", count)
        return int(count)

    async def read(self) -> Any:
        return await self.ctx.storage.get("count") or 0

    async def keep(self, key: str, value: Any) -> None:
        await self.ctx.storage.put(key, value)

    async def keep_badly(self) -> None:
        # Past the codec, as a defect of an SDK could.
        self.ctx.storage.put_raw("bad", "not json")


@asynccontextmanager
async def worker(
    dsn: str,
    cls: type[DurableObject] = Counter,
    *,
    freshness: float = 0.3,
    link_address: str | None = "127.0.0.1:0",
    lease: float = 5.0,
    drain: float = 1.0,
    role: Role = "both",
    seams: ShardSeams | None = None,
) -> AsyncIterator[Opened]:
    async with Database(dsn, limit=lease, size=4, name="test reads") as database:
        env = Env({})
        worker_id, seams = uuid4(), seams or ShardSeams()
        shard_map = ShardMap(lambda: registry.shard_map(database))
        tell = seams.on_claimed

        def on_claimed(shards: list[int]) -> None:
            shard_map.claimed(shards, worker_id)
            tell(shards)

        made = Worker(
            WorkerSettings(
                worker_id=worker_id,
                address="127.0.0.1:0",
                version="0",
                dsn=dsn,
                shards=SHARDS,
                lease=lease,
                freshness=freshness,
                idle=10,
                start_timeout=5,
                drain=drain,
                max_waiting=1000,
                role=role,
                link_address=link_address,
            ),
            database,
            {TAG: cls},
            env=env,
            sql=NoSql(),
            timer=Timer(),
            seams=dataclasses.replace(seams, on_claimed=on_claimed),
        )
        router = Router(made.dispatcher, shard_map, shards=SHARDS, patience=lease)
        things = DurableObjectNamespace(cls.__name__, cls, TAG, router)
        env.namespaces[cls.__name__] = things
        async with made:
            yield Opened(made, things, shard_map)


async def gather(*work: Any) -> list[Any]:
    """Results and errors of all."""
    return list(await asyncio.gather(*work, return_exceptions=True))
