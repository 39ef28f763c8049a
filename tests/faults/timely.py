"""Alarms and schedules under faults: ``python -m tests.faults.timely --seed S``.

A fleet of nodes, each on a tap of its own, plans work for the next seconds; meanwhile
nodes are killed, stopped, blocked by user code and cut off from Postgres. Each piece of
work must have begun at least once, none early by the database's clock, and none whose
cancelling was acknowledged before it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg

from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from tests.benchmarks.processes import Server, node_environment, start
from tests.faults.tap import PostgresTap

APP = "tests/faults/timed_app.py"
NODES = 3
LEASE = 3.0
CLERKS = 40
CANCELLED = 0.2
# What is cancelled is due at least so long after it.
AHEAD = 2.0
# After the last fault and the last due time everything must have begun by then.
REST_SECONDS = 60.0
FAULTS = ("kill", "stop", "spin", "cut")
LEDGER = (
    "CREATE TABLE ledger (kind text, number int, at timestamptz"
    " DEFAULT clock_timestamp())"
)


class LateError(AssertionError):
    """The campaign found what must not be."""


@dataclass(slots=True)
class Plan:
    """One piece of work, as the client knows it."""

    due: float
    planned: bool = False
    id: str = ""
    # None: not asked for; True: acknowledged before it was due; False: nobody knows.
    cancelled: bool | None = None


@dataclass(slots=True)
class Node:
    """One process and its tap."""

    tap: PostgresTap
    dsn: str
    server: Server
    log: Path


@dataclass(slots=True, kw_only=True)
class Campaign:
    """Plan, strike, judge."""

    dsn: str
    work: Path
    seed: int
    count: int
    seconds: float
    tell: Callable[[str], None]
    faults: Counter[str] = field(default_factory=Counter)
    _nodes: list[Node] = field(default_factory=list)
    _plans: dict[tuple[str, int], Plan] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.Random)
    _ledger: Any = None
    _http: Any = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Raise LateError unless all was done as promised."""
        self._chance.seed(self.seed)
        self._ledger = await asyncpg.connect(self.dsn)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._ledger.close)
            await self._ledger.execute(LEDGER)
            for number in range(NODES):
                node = await self._node(number)
                self._nodes.append(node)
                stack.push_async_callback(self._end, node)
            limit = aiohttp.ClientTimeout(LEASE * 4)
            session = aiohttp.ClientSession(timeout=limit)
            self._http = await stack.enter_async_context(session)
            begun = time.time()
            await self._plan_all(begun)
            self.tell(f"{self.count} planned in {time.time() - begun:.1f} s")
            end = max(plan.due for plan in self._plans.values())
            striking = asyncio.create_task(self._strike_until(end))
            await self._cancel_some()
            await striking
            await self._judge(end)

    # --- nodes

    async def _node(self, number: int) -> Node:
        parts = urlsplit(self.dsn)
        tap = PostgresTap(parts.hostname or "127.0.0.1", parts.port or 5432)
        port = await tap.start()
        login = parts.netloc.rpartition("@")[0]
        tapped = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        log = self.work / f"node-{number}.log"
        return Node(tap, tapped, await self._start(tapped, log), log)

    async def _start(self, dsn: str, log: Path) -> Server:
        command = [sys.executable, "-m", "server", "serve", APP, "--port", "0"]
        environment = node_environment(
            DURABLE_DATABASE_URL=dsn,
            LEDGER_URL=self.dsn,
            DURABLE_LEASE_SECONDS=f"{LEASE:g}",
            DURABLE_DRAIN_SECONDS="1",
        )
        return await start(command, environment=environment, log=log)

    async def _end(self, node: Node) -> None:
        await node.server.stop()
        await node.tap.stop()

    # --- planning

    async def _post(self, where: str, limit: float) -> str:
        """Ask any node until one has answered, or it is too late for that."""
        while True:
            url = self._chance.choice(self._nodes).server.url
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._http.post(url + where) as response:
                    if response.status == 200:
                        text: str = await response.text()
                        return text
            if time.time() > limit:
                raise TimeoutError(where)
            await asyncio.sleep(0.05)

    async def _plan_all(self, begun: float) -> None:
        for number in range(self.count):
            kind = "alarm" if number % 2 else "schedule"
            lead = 8.0 + self._chance.random() * self.seconds
            due = float(int(begun + lead)) if kind == "schedule" else begun + lead
            self._plans[kind, number] = Plan(due)
        by_clerk: dict[int, list[int]] = defaultdict(list)
        for kind, number in self._plans:
            if kind == "schedule":
                by_clerk[number // 2 % CLERKS].append(number)
        bells = iter([n for kind, n in self._plans if kind == "alarm"])

        async def plan_bells() -> None:
            for number in bells:
                plan = self._plans["alarm", number]
                await self._post(f"/bell/{number}?due={plan.due}", begun + 60)
                plan.planned = True

        async def plan_clerk(clerk: int, numbers: list[int]) -> None:
            plans = [self._plans["schedule", n] for n in numbers]
            listed = ",".join(map(str, numbers))
            dues = ",".join(str(plan.due) for plan in plans)
            where = f"/clerk/c{clerk}?numbers={listed}&dues={dues}"
            ids = (await self._post(where, begun + 60)).split(",")
            for plan, id in zip(plans, ids, strict=True):
                plan.planned, plan.id = True, id

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(plan_bells())
            for clerk, numbers in by_clerk.items():
                group.create_task(plan_clerk(clerk, numbers))

    async def _cancel_some(self) -> None:
        chosen = [key for key in self._plans if self._chance.random() < CANCELLED]
        waiting = iter(sorted(chosen, key=lambda key: self._plans[key].due))

        async def cancel() -> None:
            for kind, number in waiting:
                plan = self._plans[kind, number]
                if plan.due - time.time() < AHEAD:
                    continue
                plan.cancelled = False
                where = f"/bell/{number}?cancel=1"
                if kind == "schedule":
                    where = f"/clerk/c{number // 2 % CLERKS}?cancel={plan.id}"
                with suppress(TimeoutError):
                    await self._post(where, plan.due)
                    now = await self._ledger_time()
                    plan.cancelled = now < plan.due

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(cancel())

    async def _ledger_time(self) -> float:
        async with self._asking:
            sql = "SELECT extract(epoch FROM clock_timestamp())::float8"
            return float(await self._ledger.fetchval(sql))

    # --- faults

    async def _strike_until(self, end: float) -> None:
        while time.time() < end:
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))
            node = self._chance.choice(self._nodes)
            fault = FAULTS[sum(self.faults.values()) % len(FAULTS)]
            await getattr(self, f"_{fault}")(node)
            self.faults[fault] += 1

    async def _kill(self, node: Node) -> None:
        node.server.kill()
        await node.server.process.wait()
        node.server = await self._start(node.dsn, node.log)

    async def _stop(self, node: Node) -> None:
        os.kill(node.server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._long())
        finally:
            os.kill(node.server.pid, signal.SIGCONT)

    async def _spin(self, node: Node) -> None:
        # On whichever node owns it.
        where = f"/bell/{self._chance.randrange(10**6, 10**7)}?spin={self._long():g}"
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.post(node.server.url + where) as response:
                await response.read()

    async def _cut(self, node: Node) -> None:
        node.tap.is_cut = True
        try:
            await asyncio.sleep(self._long())
        finally:
            node.tap.heal()

    def _long(self) -> float:
        """Below the lease, or beyond it."""
        return self._chance.choice([LEASE / 2, LEASE + 1])

    # --- judging

    async def _judge(self, end: float) -> None:
        wanted = {k for k, p in self._plans.items() if p.cancelled is None}
        limit = max(end, time.time()) + REST_SECONDS
        while True:
            rows = await self._ledger.fetch(
                "SELECT kind, number, extract(epoch FROM at)::float8 FROM ledger"
            )
            begun: dict[tuple[str, int], list[float]] = defaultdict(list)
            for kind, number, at in rows:
                begun[kind, number].append(at)
            missing = wanted - begun.keys()
            # One that is on trial at this moment is among them, too.
            aside = await self._ledger.fetch("SELECT name FROM durable.quarantine")
            if not (missing or aside) or time.time() > limit:
                break
            await asyncio.sleep(0.2)
        early = [k for k, times in begun.items() if min(times) < self._plans[k].due]
        undead = [k for k in begun if self._plans[k].cancelled]
        found = {"never begun": missing, "early": early, "after its cancel": undead}
        found["put aside"] = [row["name"] for row in aside]
        wrong = {what: sorted(keys)[:10] for what, keys in found.items() if keys}
        cancelled = sum(plan.cancelled is True for plan in self._plans.values())
        late = [min(times) - self._plans[k].due for k, times in begun.items()]
        again = sum(len(times) > 1 for times in begun.values())
        self.tell(
            f"seed {self.seed}: {len(begun)} of {self.count} begun, {again} more than "
            f"once, {cancelled} cancelled; faults {dict(self.faults)}; latest "
            f"{max(late):.1f} s after its time"
        )
        if wrong:
            raise LateError(f"{wrong} (seed {self.seed})")


def tell(text: str) -> None:
    """Show what is going on."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _main(chosen: argparse.Namespace, work: Path) -> None:
    async with embedded_postgres(work / ".durable") as dsn:
        await asyncio.to_thread(migrate, dsn, 1024)
        await Campaign(
            dsn=dsn,
            work=work,
            seed=chosen.seed,
            count=chosen.count,
            seconds=chosen.seconds,
            tell=tell,
        ).run()


def main() -> int:
    """Run and judge; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.faults.timely", description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-faults-") as directory:
        work = Path(directory)
        work.chmod(0o755)  # Postgres runs as an ordinary user also when we are root
        try:
            asyncio.run(_main(chosen, work))
        except LateError as error:
            tell(f"ANOMALY {error}")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
