"""Planned work in bulk: what the poll costs, and how late work begins.

``python -m tests.benchmarks.work`` plans 100,000 schedules of 10,000 agents on a node,
far ahead, and beside them one for each agent that falls due in the next seconds, 500 a
second: first evenly, then 500 at the same moment in each second. It prints how late
these began, how late the one was that is due of an agent with 10,000, and what a read
of the window costs with and without the others. It ends with 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import uvloop

from agents import Agent, get_agent_by_name
from durable.store.lane_statements import UPCOMING
from durable.worker.alarm_loop import AHEAD_SECONDS, MAX_WINDOW
from server.embed import DurableRuntime
from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from server.node import calm_collector
from server.settings import Settings
from tests.benchmarks.targets import Verdict, render

SHARDS = 1024
AGENTS = 10_000
PENDING_EACH = 10
A_SECOND = 500
AT_A_TIME = 64
FAR = 7 * 24 * 3600
# Between the last planning and the first firing.
LEAD_SECONDS = 15
MAX_LATE_MS = 250.0
# Of those that are due together: begun before the next second's.
MAX_TOGETHER_MS = 1000.0
BURSTS = 5
# The window's read may cost so much more with all that is pending than without.
MAX_POLL_RATIO = 1.5
MAX_POLL_EXTRA_MS = 1.0
POLLS = 40


class Planner(Agent[Any, Any]):
    """Plans far ahead, and soon; ``late`` gets the seconds by which it was late."""

    late: ClassVar[dict[str, list[float]]] = defaultdict(list)

    async def plan(self, count: int) -> None:
        async with self.ctx.storage.transaction():
            for number in range(count):
                await self.schedule(FAR + number, "note", number)

    async def plan_at(self, moment: float, kind: str) -> None:
        when = datetime.fromtimestamp(moment, UTC)
        await self.schedule(when, "note", [kind, moment])

    def note(self, payload: tuple[str, float]) -> None:
        kind, moment = payload
        self.late[kind].append(time.time() - moment)


async def each(stubs: list[Any], work: Any) -> float:
    """Do something with every stub, some at a time; the seconds that it took."""
    begun, waiting = time.monotonic(), iter(enumerate(stubs))

    async def some() -> None:
        for number, stub in waiting:
            await work(number, stub)

    await asyncio.gather(*(some() for _ in range(AT_A_TIME)))
    return time.monotonic() - begun


async def poll_ms(connection: Any) -> float:
    """Milliseconds of a read of the window, the median of some."""
    shards, times = list(range(SHARDS)), []
    for _ in range(POLLS):
        begun = time.perf_counter()
        await connection.fetch(UPCOMING, shards, AHEAD_SECONDS, MAX_WINDOW)
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


async def run(dsn: str, agents: int) -> list[Verdict]:
    """Plan, wait, judge."""
    await asyncio.to_thread(migrate, dsn, SHARDS)
    connection = await asyncpg.connect(dsn)
    settings = Settings(database_url=dsn)
    try:
        async with DurableRuntime([Planner], settings=settings) as runtime:
            empty = await poll_ms(connection)
            names = (f"a{n}" for n in range(agents))
            stubs = [
                await get_agent_by_name(Planner, name, env=runtime.env)
                for name in names
            ]
            took = await each(stubs, lambda _, stub: stub.plan(PENDING_EACH))
            tell(f"{agents * PENDING_EACH:,} schedules planned in {took:.0f} s")
            await connection.execute("ANALYZE durable.alarm")
            full = await poll_ms(connection)
            await fire("evenly", stubs, lambda n: n / A_SECOND)
            together = stubs[: BURSTS * A_SECOND]
            await fire("together", together, lambda n: n // A_SECOND)
            big = await get_agent_by_name(Planner, "big", env=runtime.env)
            await big.plan(Planner.max_schedules - 1)
            await fire("big", [big], lambda _: 0)
    finally:
        await connection.close()
    return [
        lateness(f"lateness at {A_SECOND} firings a second", "evenly", agents),
        lateness(
            f"lateness of {A_SECOND} at the same moment, each second",
            "together",
            len(together),
            most=MAX_TOGETHER_MS,
        ),
        lateness(f"one due of {Planner.max_schedules:,} of one agent", "big", 1),
        poll(agents, empty, full),
    ]


async def fire(kind: str, stubs: list[Any], after: Callable[[int], float]) -> None:
    """Plan one more for each agent, and wait until they have run."""
    first = int(time.time()) + LEAD_SECONDS
    await each(stubs, lambda n, stub: stub.plan_at(first + after(n), kind))
    left = first - time.time()
    tell(f"{len(stubs):,} more {kind}, the first in {left:.0f} s")
    limit = first + after(len(stubs)) + 30
    late = Planner.late[kind]
    while len(late) < len(stubs) and time.time() < limit:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def lateness(title: str, kind: str, count: int, most: float = MAX_LATE_MS) -> Verdict:
    """How late the runs of a kind began; none may be early or missing."""
    late = sorted(seconds * 1000 for seconds in Planner.late[kind])
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    return Verdict(
        title=title,
        ours=f"p99 {p99:.0f} ms",
        reference="",
        result=f"{p99:.0f} ms",
        target=f"<= {most:g} ms",
        passed=len(late) == count and late[0] >= 0 and p99 <= most,
        remark=f"p50 {p50:.0f}, worst {late[-1]:.0f} ms, {len(late):,} fired",
    )


def poll(agents: int, empty: float, full: float) -> Verdict:
    """What a read of the window costs with all that is pending, and without."""
    return Verdict(
        title=f"a read of the window, {agents * PENDING_EACH:,} pending",
        ours=f"{full:.2f} ms",
        reference=f"none pending {empty:.2f} ms",
        result=f"{full / empty:.2f} x",
        target=f"<= {MAX_POLL_RATIO:g} x + {MAX_POLL_EXTRA_MS:g} ms",
        passed=full <= MAX_POLL_RATIO * empty + MAX_POLL_EXTRA_MS,
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _main(agents: int, work: Path) -> list[Verdict]:
    async with embedded_postgres(work / "postgres") as dsn:
        return await run(dsn, agents)


def main() -> int:
    """Measure and print; 0 when the targets were reached."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.work", description=__doc__)
    parser.add_argument("--agents", type=int, default=AGENTS)
    chosen = parser.parse_args()
    calm_collector()  # as a node does
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
        Path(work).chmod(0o755)
        verdicts = uvloop.run(_main(chosen.agents, Path(work)))  # as a node runs
    print(render(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
