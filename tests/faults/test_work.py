"""``kill -9`` of a node while schedules, queues and outboxes are worked off.

Each schedule and item ran at least once, none early and none that was cancelled; each
message was applied exactly once, in order.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.faults.work import campaign, node, process_of


async def test_killed_nodes_lose_no_work_and_double_no_message(
    database_url: str,
) -> None:
    await campaign(database_url, 5, 250, 5.0, time.time_ns() % 10**6)


async def test_a_job_that_takes_its_node_down_is_a_dead_letter_and_replayed_when_mended(
    database_url: str,
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for round_ in range(2):
            with process_of(database_url) as (process, url):
                if round_ == 0:
                    async with aiohttp.ClientSession(url) as session:
                        async with session.post("/agents/poison/p") as response:
                            assert response.status == 200
                assert await asyncio.to_thread(process.wait, 30) == 1
        with node(database_url):
            await written(connection, "lived")
        (letter,) = await connection.fetch("SELECT * FROM durable.dead_letters")
        assert letter["callback"] == "die"
        assert "the process ended in 2 runs" in letter["error"]
        with node(database_url, MENDED="1") as url:
            async with aiohttp.ClientSession(url) as session:
                async with session.post("/agents/poison/p?replay") as response:
                    assert await response.text() == "1"
            await written(connection, "mended")
        assert await connection.fetch("SELECT * FROM durable.dead_letters") == []
    finally:
        await connection.close()


async def written(connection: Any, key: str) -> None:
    """Wait until an agent has written a key."""
    sql, limit = "SELECT count(*) FROM durable.kv WHERE key = $1", time.monotonic() + 30
    while not await connection.fetchval(sql, key):
        assert time.monotonic() < limit, f"{key} was never written"
        await asyncio.sleep(0.05)


@pytest.mark.soak
async def test_50_kills_lose_no_work_and_double_none_of_10000_messages(
    database_url: str,
) -> None:
    await campaign(database_url, 50, 2500, 100.0, time.time_ns() % 10**6)
