"""What storage costs by itself: a cached read, a write with its gate, a long list.

``python -m tests.benchmarks.storage`` runs two objects on a node in this process. A
write is measured up to the point where its commit is the lane's: ``put`` and an effect
behind it at the output gate, in a write set of its own, as CPU time of the thread. The
list is read in pages, and what one needs at most must not grow with their number.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import uvloop

from durable import DurableObject
from server.embed import DurableRuntime
from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from server.settings import Settings
from tests.benchmarks.targets import (
    MAX_CACHED_GET_US,
    MAX_PAGE_GROWTH,
    MAX_PUT_CPU_US,
    Verdict,
    render,
)

SAMPLES = 2_000
GETS = 100
KEYS = 100_000
AT_ONCE = 128
PAGE = 1_000
VALUE = {"title": "something to be done", "done": False, "n": 1}


class Shelf(DurableObject):
    """An object that measures its own storage."""

    async def time_get(self, samples: int) -> list[float]:
        """Seconds of a read that the cache answers: means over ``GETS`` of them."""
        storage = self.ctx.storage
        await storage.put("key", VALUE)
        times = []
        for _ in range(samples):
            begun = time.perf_counter()
            for _ in range(GETS):
                await storage.get("key")
            times.append((time.perf_counter() - begun) / GETS)
        return times

    async def time_put(self, samples: int) -> list[float]:
        """Seconds of CPU of a write and an effect, each in a write set of its own."""
        storage, activation = self.ctx.storage, self.ctx._activation
        times = []
        for number in range(samples):
            begun = time.thread_time()
            storage.put(f"key {number % 100}", VALUE)
            activation.emit(_nothing)
            times.append(time.thread_time() - begun)
            await storage.sync()
        return times

    async def fill(self, first: int, count: int) -> None:
        for start in range(first, first + count, AT_ONCE):
            end = min(start + AT_ONCE, first + count)
            self.ctx.storage.put({f"row {n:08}": VALUE for n in range(start, end)})
        await self.ctx.storage.sync()

    async def walk(self) -> tuple[int, int, int]:
        """(entries, bytes of the first page, of the largest one): the peaks."""
        tracemalloc.start()
        first = largest = entries = 0
        after: str | None = None
        try:
            while True:
                tracemalloc.reset_peak()
                page = await self.ctx.storage.list(
                    prefix="row ", start_after=after, limit=PAGE
                )
                if not page:
                    return entries, first, largest
                entries, after = entries + len(page), next(reversed(page))
                del page
                _, peak = tracemalloc.get_traced_memory()
                first, largest = first or peak, max(largest, peak)
        finally:
            tracemalloc.stop()


def _nothing() -> None:
    pass


async def run(dsn: str, samples: int, keys: int) -> list[Verdict]:
    """Migrate, measure, judge."""
    await asyncio.to_thread(migrate, dsn, 1024)
    settings = Settings(database_url=dsn)
    async with DurableRuntime([Shelf], settings=settings) as runtime:
        shelf: Any = runtime.env.namespaces["Shelf"].get_by_name("shelf")
        gets = await shelf.time_get(samples)
        puts = await shelf.time_put(samples)
        long: Any = runtime.env.namespaces["Shelf"].get_by_name("long")
        for first in range(0, keys, AT_ONCE * 50):
            await long.fill(first, min(AT_ONCE * 50, keys - first))
        # So that it is read from Postgres, and not from what was written.
        await runtime._runtime.worker.dispatcher.evict_idle(0)
        begun = time.perf_counter()
        walked = await long.walk()
        seconds = time.perf_counter() - begun
    return [
        _duration("a cached get", gets, MAX_CACHED_GET_US),
        _duration("put and its gate, CPU", puts, MAX_PUT_CPU_US),
        _list(keys, walked, seconds),
    ]


def _duration(title: str, seconds: list[float], most: float) -> Verdict:
    times = [value * 1e6 for value in seconds]
    p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
    return Verdict(
        title=title,
        ours=f"p50 {p50:.2f} us",
        reference="",
        result=f"{p50:.2f} us",
        target=f"< {most:g} us",
        passed=p50 < most,
        remark=f"p99 {p99:.1f} us",
    )


def _list(keys: int, walked: tuple[int, int, int], seconds: float) -> Verdict:
    entries, first, largest = walked
    growth = largest / first
    return Verdict(
        title=f"{keys:,} keys of one object listed in pages of {PAGE:,}",
        ours=f"first {first / 1e6:.2f} MB, largest {largest / 1e6:.2f} MB",
        reference="",
        result=f"{growth:.2f} x",
        target=f"<= {MAX_PAGE_GROWTH:g} x",
        passed=entries == keys and growth <= MAX_PAGE_GROWTH,
        remark=f"{entries:,} entries in {seconds:.1f} s, traced",
    )


async def _main(chosen: argparse.Namespace, work: Path) -> list[Verdict]:
    async with embedded_postgres(work / "postgres") as dsn:
        return await run(dsn, chosen.samples, chosen.keys)


def main() -> int:
    """Measure and print; 0 when the targets were reached."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.storage", description=__doc__
    )
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each")
    parser.add_argument("--keys", type=int, default=KEYS, help="in the long list")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
        Path(work).chmod(0o755)
        verdicts = uvloop.run(_main(chosen, Path(work)))  # as a node runs
    print(render(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
