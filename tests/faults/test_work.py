"""``kill -9`` of a node while schedules, queues and outboxes are worked off.

Each schedule and item ran at least once, none early and none that was cancelled; each
message was applied exactly once, in order.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.examples.serving import REPOSITORY, Output

APP = "tests/faults/work_app.py"
SOURCES = 4
# A node that was asked for work, or has started, lives so long at most.
MOST_SECONDS = 0.5
# What a node that is killed leaves in progress is taken up so much later.
HEARTBEAT_LIMIT = 60


@contextmanager
def node(dsn: str, **variables: str) -> Iterator[str]:
    """A node's URL; it is killed at the end."""
    with process_of(dsn, **variables) as (process, url):
        yield url
        process.kill()


@contextmanager
def process_of(
    dsn: str, app: str = APP, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", app, "--port", "0"],
        cwd=REPOSITORY,
        env={
            "DURABLE_DATABASE_URL": dsn,
            "PYTHONUNBUFFERED": "1",
            "PATH": "",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = Output(process)
    try:
        yield process, output.wait_for_url()
    finally:
        process.kill()
        process.wait()
        output.close()


async def plan(url: str, count: int, seconds: float) -> None:
    async with aiohttp.ClientSession(url) as session:
        for number in range(SOURCES):
            where = f"/agents/source/s{number}?count={count}&seconds={seconds}"
            async with session.post(where) as response:
                assert response.status == 200, await response.text()


async def left(connection: Any) -> dict[str, int]:
    """How much isn't done yet, of each kind."""
    rows = await connection.fetch(
        "SELECT space, count(*) FROM durable.kv WHERE space IN "
        "('schedules', 'work-queue', 'work-outbox') GROUP BY space"
    )
    return dict(rows)


async def campaign(dsn: str, kills: int, count: int, seconds: float, seed: int) -> None:
    chance = random.Random(seed)
    connection = await asyncpg.connect(dsn)
    hit: Counter[str] = Counter()
    try:
        for round_ in range(kills):
            with node(dsn) as url:
                if round_ == 0:
                    await plan(url, count, seconds)
                await asyncio.sleep(chance.uniform(0.01, MOST_SECONDS))
                hit.update((await left(connection)).keys())
        with node(dsn):
            limit = time.monotonic() + HEARTBEAT_LIMIT + 2 * seconds
            # Postgres tells nobody: it is asked.
            while await left(connection) and time.monotonic() < limit:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert await left(connection) == {}, f"work is left (seed {seed})"
        assert len(hit) == 3, f"no kill met work of each kind: {hit} (seed {seed})"
        await check(connection, count, seed)
    finally:
        await connection.close()


async def check(connection: Any, count: int, seed: int) -> None:
    rows = await connection.fetch(
        "SELECT o.name, k.key, k.value::text FROM durable.kv k JOIN durable.object o"
        " ON o.shard = k.shard AND o.id = k.object WHERE k.space = 'user' ORDER BY 1, 2"
    )
    dead = await connection.fetchval("SELECT count(*) FROM durable.dead_letters")
    ran = Counter[str]()
    entries: dict[str, list[int]] = {}
    for _, key, value in rows:
        kind, _, rest = key.partition(":")
        assert kind != "early", f"{key} (seed {seed})"
        if kind == "ran":
            ran[rest.partition(":")[0]] += 1
        if kind == "entry":
            entries.setdefault(rest.partition(":")[0], []).append(json.loads(value))
    assert ran["cancelled"] == 0
    assert ran["schedule"] + ran["queue"] + dead >= 2 * SOURCES * count, f"seed {seed}"
    assert entries == {f"s{n}": [*range(count)] for n in range(SOURCES)}, f"seed {seed}"


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
