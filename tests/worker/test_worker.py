"""A worker on a real Postgres: claims, group commit, a lane that is lost, a drain."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

from durable import DurableError, Unavailable
from durable.domain.errors import DataRefused
from durable.testing.databases import SHARDS
from tests.store.lanes import session, terminate, until
from tests.worker.workers import gather, worker


async def test_a_hundred_increments_of_one_object_at_once_are_a_hundred(
    database_url: str,
) -> None:
    async with worker(database_url) as place:
        await place.stub("a").increment()
        await place.worker.dispatcher.evict_idle(0)
        results = await asyncio.gather(
            *(place.stub("a").increment() for _ in range(100))
        )
        assert sorted(results) == list(range(2, 102))
    async with worker(database_url) as place:
        assert await place.stub("a").read() == 101


async def test_many_objects_share_commits_and_reads(database_url: str) -> None:
    async with worker(database_url) as place:
        names = [f"n{number}" for number in range(200)]
        results = await asyncio.gather(
            *(place.stub(name).increment() for name in names)
        )
        assert results == [1] * 200
        assert place.worker.shards.lane.meter.commits.count < 20


async def test_one_bad_value_in_a_batch_fails_its_object_and_not_its_100_neighbours(
    database_url: str,
) -> None:
    async with worker(database_url) as place:
        lane = place.worker.shards.lane
        neighbours = [place.stub(f"n{number}") for number in range(100)]
        bad = place.stub("bad")
        await asyncio.gather(*(stub.increment() for stub in (*neighbours, bad)))
        sent = await _sent_together(
            lane,
            [stub.increment() for stub in neighbours[:50]]
            + [bad.keep_badly()]
            + [stub.increment() for stub in neighbours[50:]],
        )
        results = sent.results
        assert sent.batches[0] == 101
        # Halves of halves: two of the batches in each depth, and no more.
        assert len(sent.batches) <= 2 * 7 + 1
        error = results.pop(50)
        assert isinstance(error, DataRefused)
        assert not error.retryable
        assert results == [2] * 100
        assert await bad.read() == 1, "it was read anew"
        assert await asyncio.gather(*(stub.read() for stub in neighbours)) == [2] * 100
    async with session(database_url) as admin:
        rows = await admin.fetch(
            "SELECT value::text, count(*) FROM durable.kv WHERE key = 'count' "
            "GROUP BY 1 ORDER BY 1"
        )
    assert [tuple(row) for row in rows] == [("1", 1), ("2", 100)]


@dataclass
class _Sent:
    """What calls gave, and how many objects were in each commit that was tried."""

    results: list[Any]
    batches: list[int]


async def _sent_together(lane: Any, calls: list[Any]) -> _Sent:
    """Make calls while the lane is busy, so that their commits are one batch."""
    batches: list[int] = []
    send = lane._send

    async def counting(batch: Any) -> None:
        batches.append(len(batch))
        await send(batch)

    lane._send = counting
    free = asyncio.Event()
    busy = asyncio.create_task(lane._errand(free.wait))
    running = asyncio.create_task(gather(*calls))

    async def all_written() -> bool:
        return len(lane._dirty) == len(calls)

    await until(all_written, 3)
    free.set()
    await busy
    return _Sent(await running, batches)


async def test_a_large_value_is_stored_and_read_back(database_url: str) -> None:
    async with worker(database_url) as place:
        large = "é" * 2_000_000
        await place.stub("a").keep("count", large)
        await place.worker.dispatcher.evict_idle(0)
        assert await place.stub("a").read() == large


async def test_a_lost_lane_loses_nothing_that_was_acknowledged(
    database_url: str,
) -> None:
    """Kill the session again and again under load: counts hold, and work goes on."""
    async with worker(database_url, lease=2.0) as place:
        acknowledged = dict.fromkeys((f"n{number}" for number in range(8)), 0)
        unknown = dict.fromkeys(acknowledged, 0)
        going = True

        async def load(name: str) -> None:
            while going:
                try:
                    await place.stub(name).increment()
                except DurableError as error:
                    if not error.retryable:
                        raise
                    unknown[name] += 1
                else:
                    acknowledged[name] += 1

        loads = [asyncio.create_task(load(name)) for name in acknowledged]
        for _ in range(3):
            total = sum(acknowledged.values())
            async with asyncio.timeout(15):
                while sum(acknowledged.values()) < total + 50:
                    for running in loads:
                        assert not running.done(), running.exception()
                    await asyncio.wait(loads, timeout=0.01)
            await terminate(database_url, place.lane_name)
        going = False
        await asyncio.gather(*loads)
        assert sum(unknown.values())
        for name, count in acknowledged.items():
            stored = await place.stub(name).read()
            assert count <= stored <= count + unknown[name]


async def test_shards_that_were_released_are_served_at_once(database_url: str) -> None:
    async with worker(database_url, freshness=5.0) as place:
        assert place.worker.shards.owned == SHARDS
    begun = time.monotonic()
    async with worker(database_url, freshness=5.0) as place:
        assert await place.stub("a").increment() == 1
    assert time.monotonic() - begun < 4


async def test_shards_that_were_not_released_are_served_after_w(
    database_url: str,
) -> None:
    """The former owner may still believe itself fresh, and answer reads."""
    async with worker(database_url) as place:
        await place.stub("a").increment()
    async with session(database_url) as admin:
        await admin.execute(
            "UPDATE durable.shard SET owner = gen_random_uuid() WHERE id = 1"
        )
    begun = time.monotonic()
    async with worker(database_url, freshness=1.5) as place:
        assert place.worker.shards.owned == SHARDS
        assert time.monotonic() - begun >= 1.5


async def test_what_another_worker_owns_is_unavailable_until_it_lets_go(
    database_url: str,
) -> None:
    async with worker(database_url) as first:
        await first.stub("a").increment()
        async with worker(database_url, lease=2.0) as second:
            with pytest.raises(Unavailable, match="no owner of shard"):
                await second.stub("a").increment()
            await first.worker._drain()
            await first.worker.shards.close()
            # It tries for every second; a call waits for it.
            assert await second.stub("a").increment() == 2


async def test_a_drained_worker_takes_no_more_and_has_released_all(
    database_url: str,
) -> None:
    async with worker(database_url) as place:
        await place.stub("a").increment()
    with pytest.raises(Unavailable):
        await place.stub("b").increment()
    async with session(database_url) as admin:
        owned = "SELECT count(*) FROM durable.shard WHERE owner IS NOT NULL"
        assert await admin.fetchval(owned) == 0
