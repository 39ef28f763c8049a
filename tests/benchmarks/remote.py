"""What a fleet costs: owners behind a link, and two workers instead of one.

``python -m tests.benchmarks.remote`` drives the same workloads through one node that
owns its objects and through a front end whose worker does, in turns, and compares the
CPU that one operation takes in all of our processes. It counts the frames that a
broadcast to 1,000 sockets of another front end puts on the link. Then it compares two
workers behind a front end with one: durable increments a second where the machine has
a core for each process, else the workers' CPU for one. It ends with 1 if a target was
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg

from server.embedded_postgres import embedded_postgres
from tests.benchmarks.bench import APP, NODE
from tests.benchmarks.generator import DEFAULT_SOURCE, Generator, build
from tests.benchmarks.metrics import metric
from tests.benchmarks.processes import (
    Server,
    node_environment,
    run_to_end,
    running,
)
from tests.benchmarks.targets import Runs, Series, Verdict, render
from tests.support.settled import nobody_claims, wait_until_settled

LOCAL, REMOTE, ONE, TWO = "local", "remote", "one worker", "two workers"
# A request through a remote owner, against one whose owner is the front end itself.
MAX_REMOTE_CPU = 1.6
REQUESTS = ("http_get", "http_incr_many")
# Two workers, against one.
MIN_TWO_RATE = 1.7
MAX_TWO_CPU = 1.1
INCREMENTS = "ws_rpc_incr_p16"
# The front end, two workers, Postgres and the generator.
CORES_FOR_RATES = 5
SOCKETS = 1000
BROADCASTS = 100
# Besides them there is a ping a second.
MAX_FRAMES = 1.1
_FRAMES = "durable_link_frames_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Where clients connect, and the processes whose CPU counts."""

    front: Server
    workers: Sequence[Server]

    @property
    def all_pids(self) -> list[int]:
        """All processes of ours; a node of both roles is one."""
        return sorted({s.pid for s in (self.front, *self.workers)})


@dataclass(slots=True, kw_only=True)
class Systems:
    """Starts fleets, each on a database of its own in one Postgres."""

    dsn: str
    work: Path

    async def _database(self, name: str) -> str:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')  # one of ours
        finally:
            await connection.close()
        dsn = urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        environment = node_environment(DURABLE_DATABASE_URL=dsn)
        await run_to_end((*NODE, "migrate"), environment=environment)
        return dsn

    @asynccontextmanager
    async def start(self, name: str, workers: int) -> AsyncIterator[System]:
        """A front end with so many workers; with none, one node that does it all."""
        dsn = await self._database(name)
        async with AsyncExitStack() as stack:

            async def node(role: str, number: int = 0) -> Server:
                return await stack.enter_async_context(
                    running(
                        (*NODE, "serve", APP, "--port", "0"),
                        environment=node_environment(
                            DURABLE_DATABASE_URL=dsn,
                            DURABLE_ROLE=role,
                            DURABLE_ADMIN_PORT="0",
                        ),
                        log=self.work / f"{name}-{role}-{number}.log",
                    )
                )

            if workers == 0:
                front = await node("both")
                yield System(front=front, workers=[front])
                return
            with nobody_claims(dsn):
                others = [await node("worker", number) for number in range(workers)]
                front = await node("front")
            await asyncio.to_thread(wait_until_settled, dsn, workers)
            yield System(front=front, workers=others)


@dataclass(slots=True, kw_only=True)
class Fleets:
    """What was measured so far."""

    generator: Generator
    systems: Systems
    runs: Runs
    rounds: int

    async def measure(
        self, name: str, system: System, workload: str, pids: Sequence[int]
    ) -> None:
        """One run of one workload."""
        made = await self.generator.run(
            system=name, url=system.front.url, workload=workload, pids=pids
        )
        self.runs.add(made)
        cpu = made.values.get("srv_cpu_us_op", 0.0)
        sys.stderr.write(
            f"  {name:12} {workload:16} {made.rate:>8,.0f}/s {cpu:6.1f} us "
            f"{made.flaw or ''}\n"
        )

    async def requests(self) -> list[Verdict]:
        """Owners that are elsewhere, against those that are here."""
        async with (
            self.systems.start("local", 0) as local,
            self.systems.start("remote", 1) as remote,
        ):
            for _ in range(self.rounds):
                for workload in REQUESTS:
                    for name, system in ((LOCAL, local), (REMOTE, remote)):
                        await self.measure(name, system, workload, system.all_pids)
            frames = await broadcast(remote)
        verdicts = [
            self._cpu(f"CPU of {w}", w, REMOTE, LOCAL, MAX_REMOTE_CPU) for w in REQUESTS
        ]
        return [*verdicts, frames]

    async def workers(self) -> Verdict:
        """Two workers against one."""
        async with (
            self.systems.start("one", 1) as one,
            self.systems.start("two", 2) as two,
        ):
            for _ in range(self.rounds):
                for name, system in ((ONE, one), (TWO, two)):
                    pids = [worker.pid for worker in system.workers]
                    await self.measure(name, system, INCREMENTS, pids)
        if (os.cpu_count() or 1) < CORES_FOR_RATES:
            title = "workers' CPU of an increment"
            return self._cpu(title, INCREMENTS, TWO, ONE, MAX_TWO_CPU)
        rates = [
            self.runs.rate(Series(system=name, workload=INCREMENTS)) or 0.0
            for name in (ONE, TWO)
        ]
        ratio = rates[1] / rates[0] if rates[0] else 0.0
        return Verdict(
            title="durable increments",
            ours=f"{TWO} {rates[1]:,.0f}/s",
            reference=f"{ONE} {rates[0]:,.0f}/s",
            result=f"{ratio:.2f} x",
            target=f">= {MIN_TWO_RATE:g} x",
            passed=ratio >= MIN_TWO_RATE,
        )

    def _cpu(
        self, title: str, workload: str, ours: str, reference: str, limit: float
    ) -> Verdict:
        series = [Series(system=name, workload=workload) for name in (ours, reference)]
        cpu, base = (self.runs.median(s, "srv_cpu_us_op") or 0.0 for s in series)
        flaws = [flaw for s in series for flaw in self.runs.flaws(s)]
        ratio = cpu / base if base else float("inf")
        return Verdict(
            title=title,
            ours=f"{ours} {cpu:.1f} us",
            reference=f"{reference} {base:.1f} us",
            result=f"{ratio:.2f} x",
            target=f"<= {limit:g} x",
            passed=not flaws and ratio <= limit,
            remark="; ".join(flaws[:1]),
        )


async def broadcast(system: System) -> Verdict:
    """Frames from the worker to the front end for each broadcast of a new state."""
    (worker,) = system.workers
    url = f"{system.front.url}/agents/bench-agent/broadcast"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        sockets = [
            await stack.enter_async_context(session.ws_connect(url))
            for _ in range(SOCKETS)
        ]

        async def follow(socket: aiohttp.ClientWebSocketResponse) -> None:
            expected = f'"count":{BROADCASTS}'
            async for message in socket:
                if expected in message.data.replace(" ", ""):
                    return

        following = [asyncio.create_task(follow(socket)) for socket in sockets]
        before = await metric(worker, _FRAMES)
        for _ in range(BROADCASTS):
            async with session.post(url) as response:
                response.raise_for_status()
        async with asyncio.timeout(60):
            await asyncio.gather(*following)
        # Each request has its answer besides.
        sent = await metric(worker, _FRAMES) - before - BROADCASTS
    each = sent / BROADCASTS
    return Verdict(
        title=f"link frames of a broadcast to {SOCKETS:,} sockets",
        ours=f"{sent:.0f} for {BROADCASTS}",
        reference="",
        result=f"{each:.2f}",
        target=f"<= {MAX_FRAMES:g}",
        passed=each <= MAX_FRAMES,
    )


async def _main(chosen: argparse.Namespace, work: Path) -> list[Verdict]:
    source = Path(os.environ.get("DURABLE_LOAD_DIR", DEFAULT_SOURCE))
    program = await build(source, work)
    async with embedded_postgres(work / "postgres") as dsn:
        fleets = Fleets(
            generator=Generator(program=program, seconds=chosen.seconds, warm=0.7),
            systems=Systems(dsn=dsn, work=work),
            runs=Runs(),
            rounds=chosen.rounds,
        )
        return [*await fleets.requests(), await fleets.workers()]


def main() -> int:
    """Measure and print; 0 when the targets were reached."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.remote", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each workload")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
        Path(work).chmod(0o755)
        verdicts = asyncio.run(_main(chosen, Path(work)))
    sys.stdout.write(f"{render(verdicts)}\n")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
