"""Agents' SQL beside bare psycopg, and a database with many agents that use it.

``python -m tests.benchmarks.sql`` compares ``await self.sql(…)`` in a live agent with
the same statement on a connection of psycopg's own, in turns, in one process.
``--agents N`` then makes so many agents with a table each, says what that costs, and
compares again: with 5,000 it takes about two minutes.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg.rows import class_row

from agents import Agent, get_agent_by_name
from server.embed import DurableRuntime
from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from server.settings import Settings
from tests.benchmarks.targets import (
    MAX_SQL_READ_RATIO,
    MAX_SQL_WRITE_RATIO,
    Verdict,
    render,
)

SAMPLES = 1_500
BLOCK = 50
AT_A_TIME = 8
SETTLE_SECONDS = 20
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


async def compare(dsn: str, keeper: Any, samples: int, agents: int) -> list[Verdict]:
    """The medians of ours and psycopg's, measured in turns."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as bare:
        await bare.execute(TABLE)
        await bare.execute(FILL)
        verdicts = []
        for title, statement, ratio in (
            ("one SQL read", READ, MAX_SQL_READ_RATIO),
            ("one SQL write", WRITE, MAX_SQL_WRITE_RATIO),
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
            if agents > 1:
                title += f", {agents:,} agents"
            verdicts.append(_verdict(title, ours, reference, ratio))
        return verdicts


def _verdict(
    title: str, ours: list[float], reference: list[float], target: float
) -> Verdict:
    one, other = statistics.median(ours), statistics.median(reference)
    ratio = one / other
    p99 = statistics.quantiles(ours, n=100)[98]
    # Where others take the cores the fastest tenth says more than the medians.
    quick = [statistics.quantiles(times, n=10)[0] for times in (ours, reference)]
    return Verdict(
        title=title,
        ours=f"p50 {one * 1000:.2f} ms",
        reference=f"psycopg p50 {other * 1000:.2f} ms",
        result=f"{math.ceil(ratio * 100) / 100:.2f} x",
        target=f"<= {target:g} x",
        passed=ratio <= target,
        remark=f"p99 {p99 * 1000:.1f} ms; p10 {quick[0] * 1000:.2f} and "
        f"{quick[1] * 1000:.2f} ms, {quick[0] / quick[1]:.2f} x",
    )


async def make(env: Any, count: int) -> list[float]:
    """So many agents more, with a table each; the seconds of each one's first SQL."""
    stubs = [await get_agent_by_name(Keeper, f"a{i}", env=env) for i in range(count)]
    waiting = iter(stubs)
    times: list[float] = []

    async def work() -> None:
        for stub in waiting:
            begun = time.perf_counter()
            await stub.prepare()
            times.append(time.perf_counter() - begun)

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return times


_LOOK = """
SELECT pg_database_size(current_database()) AS database,
    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
     WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r') AS catalogs,
    (SELECT count(*) FROM pg_class) AS relations,
    (SELECT count(*) FROM pg_roles) AS roles
"""
_SETTINGS = (
    "autovacuum",
    "autovacuum_max_workers",
    "autovacuum_naptime",
    "max_locks_per_transaction",
    "max_connections",
)


@dataclass(frozen=True)
class Sizes:
    """Bytes of the database and of its catalogs; rows of pg_class and pg_roles."""

    database: int
    catalogs: int
    relations: int
    roles: int


def _sizes(dsn: str) -> Sizes:
    with psycopg.connect(dsn, row_factory=class_row(Sizes)) as connection:
        row = connection.execute(_LOOK).fetchone()
    assert row is not None
    return row


def _settings(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) name",
            (list(_SETTINGS),),
        ).fetchall()
    return ", ".join(f"{name} {value}" for name, value in rows)


def _tell_growth(count: int, seconds: float, times: list[float], sizes: Any) -> None:
    """What the agents cost: time, room, and entries in the catalogs."""
    before, after = sizes
    quantiles = statistics.quantiles(times, n=100)
    each = (after.database - before.database) / count / 1000
    catalogs = (after.catalogs - before.catalogs) / count / 1000
    print(
        f"{count:,} agents with a table each, {AT_A_TIME} at a time: {seconds:.0f} s, "
        f"p50 {quantiles[49] * 1000:.0f} ms, p99 {quantiles[98] * 1000:.0f} ms\n"
        f"each takes {each:.0f} kB, of which catalogs {catalogs:.0f} kB; all of the "
        f"catalogs {after.catalogs / 1e6:.0f} MB, {after.relations:,} relations, "
        f"{after.roles:,} roles",
        file=sys.stderr,
    )


async def run(dsn: str, agents: int, samples: int) -> list[Verdict]:
    """Migrate, compare; make the other agents, and compare again."""
    await asyncio.to_thread(migrate, dsn, 1024)
    settings = Settings(database_url=dsn)
    async with DurableRuntime([Keeper], settings=settings) as runtime:
        keeper = await get_agent_by_name(Keeper, "keeper", env=runtime.env)
        await keeper.prepare()
        verdicts = await compare(dsn, keeper, samples, 1)
        if agents > 1:
            print(_settings(dsn), file=sys.stderr)
            before, begun = _sizes(dsn), time.monotonic()
            times = await make(runtime.env, agents - 1)
            seconds = time.monotonic() - begun
            _tell_growth(agents - 1, seconds, times, (before, _sizes(dsn)))
            # What making them has left to do (checkpoint, autovacuum) isn't measured.
            await asyncio.sleep(SETTLE_SECONDS)
            verdicts += await compare(dsn, keeper, samples, agents)
        return verdicts


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
