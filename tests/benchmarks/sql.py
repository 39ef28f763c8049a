"""Agents' SQL beside bare psycopg, and a database with many agents that use it.

``python -m tests.benchmarks.sql`` compares ``await self.sql(…)`` in a live agent with
the same statement on a connection of psycopg's own, in turns, in one process.
``--agents N`` makes so many agents with a table each first, and says what that costs.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from agents import Agent, get_agent_by_name
from server.embed import DurableRuntime
from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from server.settings import Settings
from tests.benchmarks.targets import Verdict, render

READ_RATIO = 3.5
WRITE_RATIO = 2.0
SAMPLES = 1_500
BLOCK = 50
AT_A_TIME = 8
TABLE = "CREATE TABLE IF NOT EXISTS item (id int4 PRIMARY KEY, n int4, title text)"
FILL = (
    "INSERT INTO item SELECT i, 0, 'item ' || i FROM generate_series(1, 100) i "
    "ON CONFLICT DO NOTHING"
)
READ = "SELECT n, title FROM item WHERE id = {}"
WRITE = "UPDATE item SET n = n + 1 WHERE id = {}"


class Keeper(Agent[Any, Any]):
    """An agent with one table."""

    async def prepare(self) -> None:
        await self.sql(TABLE)
        await self.sql(FILL)

    async def time(self, statement: str, count: int) -> list[float]:
        """Seconds of each of so many statements, one after the other."""
        return await timed(lambda i: self.sql(statement, i), count)


async def timed(work: Callable[[int], Awaitable[Any]], count: int) -> list[float]:
    times = []
    for number in range(count):
        begun = time.perf_counter()
        await work(number % 100 + 1)
        times.append(time.perf_counter() - begun)
    return times


async def compare(dsn: str, keeper: Any, samples: int) -> list[Verdict]:
    """The medians of ours and psycopg's, measured in turns."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as bare:
        await bare.execute(TABLE)
        await bare.execute(FILL)
        verdicts = []
        for title, statement, ratio in (
            ("one SQL read", READ, READ_RATIO),
            ("one SQL write", WRITE, WRITE_RATIO),
        ):
            theirs = statement.format("%s")

            async def plain(number: int, query: str = theirs) -> None:
                cursor = await bare.execute(query, (number,))
                if cursor.description:
                    await cursor.fetchall()

            ours: list[float] = []
            reference: list[float] = []
            for turn in range(-2, samples // BLOCK):  # two turns to warm up
                one = await keeper.time(statement.format("$1"), BLOCK)
                other = await timed(plain, BLOCK)
                if turn >= 0:
                    ours += one
                    reference += other
            verdicts.append(_verdict(title, ours, reference, ratio))
        return verdicts


def _verdict(
    title: str, ours: list[float], reference: list[float], target: float
) -> Verdict:
    one, other = statistics.median(ours), statistics.median(reference)
    ratio = one / other
    p99 = statistics.quantiles(ours, n=100)[98]
    return Verdict(
        title=title,
        ours=f"p50 {one * 1000:.2f} ms",
        reference=f"psycopg p50 {other * 1000:.2f} ms",
        result=f"{math.ceil(ratio * 100) / 100:.2f} x",
        target=f"<= {target:g} x",
        passed=ratio <= target,
        remark=f"p99 {p99 * 1000:.1f} ms",
    )


async def make(env: Any, count: int) -> list[Any]:
    """So many agents with a table each; says how long that took."""
    begun = time.monotonic()
    stubs = [await get_agent_by_name(Keeper, f"a{i}", env=env) for i in range(count)]
    waiting = iter(stubs)

    async def work() -> None:
        for stub in waiting:
            await stub.prepare()

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    if count > 1:
        seconds = time.monotonic() - begun
        print(f"{count:,} agents with a table each: {seconds:.0f} s", file=sys.stderr)
    return stubs


def _sizes(dsn: str) -> tuple[int, int]:
    """Bytes of the database, and of Postgres's catalogs in it."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT pg_database_size(current_database()), "
            "sum(pg_total_relation_size(oid))::bigint FROM pg_class "
            "WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'"
        ).fetchone()
    assert row is not None
    return row


async def run(dsn: str, agents: int, samples: int) -> list[Verdict]:
    """Migrate, make the agents, compare."""
    await asyncio.to_thread(migrate, dsn, 1024)
    before = _sizes(dsn)
    settings = Settings(database_url=dsn)
    async with DurableRuntime([Keeper], settings=settings) as runtime:
        stubs = await make(runtime.env, agents)
        if agents > 1:
            after = _sizes(dsn)
            each = [(b - a) / agents / 1000 for a, b in zip(before, after, strict=True)]
            print(
                f"each takes {each[0]:.0f} kB, of which catalogs {each[1]:.0f} kB",
                file=sys.stderr,
            )
        return await compare(dsn, stubs[0], samples)


async def _main(chosen: argparse.Namespace, work: Path) -> list[Verdict]:
    if chosen.dsn is not None:
        return await run(chosen.dsn, chosen.agents, chosen.samples)
    async with embedded_postgres(work / "postgres") as dsn:
        return await run(dsn, chosen.agents, chosen.samples)


def main() -> int:
    """Measure and print; 0 when both targets were reached."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.sql", description=__doc__)
    parser.add_argument("--agents", type=int, default=1, help="with a table each")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="per statement")
    parser.add_argument("--dsn", help="an empty database (default: the embedded one)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
        Path(work).chmod(0o755)
        verdicts = uvloop.run(_main(chosen, Path(work)))  # as a node runs
    print(render(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
