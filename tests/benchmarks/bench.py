"""One benchmark run: three servers on one Postgres, workload by workload.

Systems take turns within each round, so that what changes on the machine (a checkpoint,
a neighbour, the clock of the CPU) falls on all of them; medians over the rounds.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.benchmarks import idle, plain
from tests.benchmarks.generator import Generator, Measurement
from tests.benchmarks.processes import (
    Server,
    node_environment,
    run_to_end,
    running,
    start,
)
from tests.benchmarks.targets import BARE, NOISY, OURS, PLAIN, Runs

APP = "tests/benchmarks/app.py"
NODE = (sys.executable, "-m", "server")

# The order interleaves ours and the references, each next to what it is compared with.
STEADY = (
    (PLAIN, "http_incr_many"),
    (OURS, "http_incr_many"),
    (OURS, "ws_rpc_incr"),
    (OURS, "ws_rpc_incr_p16"),
    (PLAIN, "http_incr_one"),
    (OURS, "http_incr_one"),
    (BARE, "http_get"),
    (OURS, "http_get"),
    (OURS, "ws_rpc_read"),
    (BARE, "ws_echo"),
    (OURS, "fanout"),
)
IDLE_SECONDS = "3"
REPETITIONS = 16


@dataclass(slots=True, kw_only=True)
class Bench:
    """The systems under comparison and what was measured of them so far."""

    generator: Generator
    dsn: str
    postgres_pid: int
    postgres_version: str
    work: Path
    runs: Runs = field(default_factory=Runs)
    repetitions: int = REPETITIONS

    @asynccontextmanager
    async def references(self) -> AsyncIterator[dict[str, Server]]:
        """The two reference servers, up for the length of a block."""
        plain_dsn = await self._plain_database()
        async with (
            running(
                (sys.executable, "-m", "tests.benchmarks.plain"),
                environment=node_environment(BENCH_PLAIN_DATABASE_URL=plain_dsn),
                log=self.work / "plain.log",
            ) as plain_server,
            running(
                (sys.executable, "-m", "tests.benchmarks.bare"),
                environment=node_environment(),
                log=self.work / "bare.log",
            ) as bare_server,
        ):
            yield {PLAIN: plain_server, BARE: bare_server}

    async def _plain_database(self) -> str:
        """A database of its own for (a), in the same Postgres."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("CREATE DATABASE bench_plain")
        finally:
            await connection.close()
        dsn = urlunsplit(urlsplit(self.dsn)._replace(path="/bench_plain"))
        await plain.prepare(dsn)
        return dsn

    async def migrate(self) -> None:
        """Bring the database to our schema."""
        environment = node_environment(DURABLE_DATABASE_URL=self.dsn)
        await run_to_end((*NODE, "migrate"), environment=environment)

    async def start_node(self, **variables: str) -> Server:
        """Start our node."""
        return await start(
            (*NODE, "serve", APP, "--port", "0"),
            environment=node_environment(DURABLE_DATABASE_URL=self.dsn, **variables),
            log=self.work / "node.log",
        )

    async def measure(
        self, system: str, server: Server, workload: str, *options: str
    ) -> str:
        """One run of one workload; the name prefix of the agents that it made.

        A run that other processes disturbed is made again, as long as there are
        repetitions left.
        """
        measurement = await self._run(system, server, workload, *options)
        if measurement.other_cores > NOISY and self.repetitions and not options:
            self.repetitions -= 1
            measurement = await self._run(system, server, workload)
        return str(measurement.values.get("prefix", ""))

    async def _run(
        self, system: str, server: Server, workload: str, *options: str
    ) -> Measurement:
        measurement = await self.generator.run(
            system=system,
            url=server.url,
            workload=workload,
            pids=(server.pid, self.postgres_pid),
            options=options,
        )
        self.runs.add(measurement)
        flaw = f"  {measurement.flaw}" if measurement.flaw else ""
        sys.stderr.write(
            f"  {system:6} {workload:18} {measurement.rate:>10,.0f}/s{flaw}\n"
        )
        return measurement

    async def steady(self, rounds: int, only: frozenset[str]) -> None:
        """Everything that runs on servers that stay up."""
        node: Server | None = None
        async with self.references() as servers:
            node = await self.start_node()
            try:
                for number in range(rounds):
                    sys.stderr.write(f"round {number + 1} of {rounds}\n")
                    for system, workload in STEADY:
                        if only and workload not in only:
                            continue
                        server = node if system == OURS else servers[system]
                        await self.measure(system, server, workload)
            finally:
                await node.stop()

    async def cold(self, rounds: int) -> None:
        """First requests: to new agents, and to agents that sleep in Postgres."""
        for _ in range(rounds):
            async with self._warm_node() as node:
                await self.measure(OURS, node, "cold_new")
                prefix = await self.measure(OURS, node, "cold_new_incr")
            async with self._warm_node() as node:
                await self.measure(OURS, node, "cold_existing", "-x", prefix)

    @asynccontextmanager
    async def _warm_node(self) -> AsyncIterator[Server]:
        """A node that was just started and has served one known agent."""
        node = await self.start_node()
        try:
            await self.generator.run(
                system=OURS,
                url=node.url,
                workload="http_get",
                pids=(node.pid,),
                options=("-d", "0.3", "-w", "0.2"),
            )
            yield node
        finally:
            await node.stop()

    async def idle(self, sockets: int, seed: int) -> idle.IdleResult:
        """Sockets that say nothing, on a node that evicts soon."""
        node = await self.start_node(DURABLE_IDLE_SECONDS=IDLE_SECONDS)
        try:
            return await idle.measure(node, self.dsn, sockets, seed)
        finally:
            await node.stop()


async def inspect_postgres(dsn: str) -> tuple[int, str]:
    """The postmaster's pid, and the version; refuses a Postgres without fsync."""
    connection = await asyncpg.connect(dsn)
    try:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        version = await connection.fetchval("SHOW server_version")
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            value = await connection.fetchval("SELECT current_setting($1)", setting)
            if value != "on":
                raise SystemExit(f"{setting} is {value}: nothing would be durable")
        return postmaster(backend), str(version)
    finally:
        await connection.close()


def postmaster(backend: int) -> int:
    """The parent of a backend: all its children are charged to Postgres."""
    status = Path(f"/proc/{backend}/stat").read_text()
    return int(status.rsplit(") ", 1)[1].split()[1])
