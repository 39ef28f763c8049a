"""``kill -9`` of a node while schedules, queues and outboxes are worked off.

``python -m tests.faults.work --rounds 50 --seed S``: each schedule and item ran at
least once, none early and none that was cancelled; each message was applied exactly
once, in order. Prints what was found; ends with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
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


async def campaign(dsn: str, kills: int, count: int, seconds: float, seed: int) -> str:
    """What was found, in words; AssertionError if a promise was broken."""
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
        return f"seed {seed}: {kills} kills; {await check(connection, count, seed)}"
    finally:
        await connection.close()


async def check(connection: Any, count: int, seed: int) -> str:
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
    quarantined = await connection.fetch("SELECT * FROM durable.quarantine")
    assert quarantined == [], f"innocent agents are put aside (seed {seed})"
    return (
        f"{ran['schedule']} schedules, {ran['queue']} items ran, {dead} dead letters; "
        f"{sum(map(len, entries.values()))} messages applied once, in order"
    )


async def _main(chosen: argparse.Namespace, work: Path) -> str:
    async with embedded_postgres(work / ".durable") as dsn:
        await asyncio.to_thread(migrate, dsn, 1024)
        count = chosen.messages // SOURCES
        return await campaign(dsn, chosen.rounds, count, chosen.seconds, chosen.seed)


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(prog="tests.faults.work", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="kills")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=100.0, help="of schedules")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-faults-") as directory:
        work = Path(directory)
        work.chmod(0o755)  # Postgres runs as an ordinary user also when we are root
        try:
            found = asyncio.run(_main(chosen, work))
        except AssertionError as error:
            sys.stdout.write(f"ANOMALY {error}\n")
            return 1
    sys.stdout.write(f"{found}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
