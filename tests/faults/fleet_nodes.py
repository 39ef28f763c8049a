"""The nodes of a fleet's campaign, each on a tap of its own, and what befalls them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.benchmarks.processes import (
    Server,
    ServerProcessError,
    node_environment,
    start,
)
from tests.faults.tap import PostgresTap

APP = "tests/faults/fleet_app.py"
LEASE = 3.0
START_ATTEMPTS = 3


@dataclass(slots=True)
class Node:
    """One place of the fleet: processes follow each other in it."""

    dsn: str
    tap: PostgresTap
    log: Path
    server: Server
    reachable: bool = True

    @classmethod
    async def start(cls, dsn: str, log: Path) -> Node:
        """A node that reaches Postgres through a tap."""
        parts = urlsplit(dsn)
        tap = PostgresTap(parts.hostname or "127.0.0.1", parts.port or 5432)
        port = await tap.start()
        login = parts.netloc.rpartition("@")[0]
        tapped = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        return cls(tapped, tap, log, await _started(tapped, log))

    def signal(self, number: int) -> None:
        """Send its process a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.server.pid, number)

    async def restart(self) -> None:
        """Put a new process in the place of one that has ended, or is to."""
        self.reachable = False
        await self.server.process.wait()
        self.server = await _started(self.dsn, self.log)
        self.reachable = True

    async def end(self) -> None:
        """Stop it for good."""
        self.signal(signal.SIGCONT)
        with suppress(Exception):
            await self.server.stop()
        await self.tap.stop()

    def files(self) -> int:
        """How many files and sockets its process has open."""
        return len(list(Path(f"/proc/{self.server.pid}/fd").iterdir()))


async def _started(dsn: str, log: Path) -> Server:
    # Without `site` where we are without: see tests/faults/mutants.py.
    flags = ["-S"] if sys.flags.no_site else []
    command = [sys.executable, *flags, "-m", "server", "serve", APP, "--port", "0"]
    environment = node_environment(
        DURABLE_DATABASE_URL=dsn,
        DURABLE_LEASE_SECONDS=f"{LEASE:g}",
        DURABLE_DRAIN_SECONDS="2",
    )
    for _ in range(START_ATTEMPTS - 1):
        # Postgres may have been too slow for it, on a busy machine.
        with suppress(ServerProcessError):
            return await start(command, environment=environment, log=log)
    return await start(command, environment=environment, log=log)


class ShardWatch:
    """I1, as the table of shards shows it: epochs only grow, each with one claim."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._claims: dict[int, tuple[int, object]] = {}
        self.anomalies: list[str] = []

    async def run(self) -> None:
        """Look over and over, also after Postgres was away."""
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._dsn)
                try:
                    while True:
                        self._look(
                            await connection.fetch(
                                "SELECT id, epoch, claim_id FROM durable.shard"
                            )
                        )
                        await asyncio.sleep(0.1)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.1)

    def _look(self, rows: list[asyncpg.Record]) -> None:
        for shard, epoch, claim in rows:
            before = self._claims.get(shard, (epoch, claim))
            if epoch < before[0] or (epoch == before[0] and claim != before[1]):
                self.anomalies.append(f"shard {shard}: {before}, then {epoch, claim}")
            self._claims[shard] = (epoch, claim)


async def crash_postgres(dsn: str) -> None:
    """Kill a backend with SIGKILL: Postgres ends every session and recovers."""
    connection = await asyncpg.connect(dsn)
    try:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGKILL)
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.fetchval("SELECT 1")
    finally:
        connection.terminate()


async def end_sessions(dsn: str) -> None:
    """End half of all sessions, lanes among them; Postgres itself goes on."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND random() < 0.5"
        )
    finally:
        await connection.close()


async def quarantined(dsn: str) -> int:
    """How many objects are put aside, once Postgres answers."""
    limit = time.monotonic() + 20
    while True:
        try:
            connection = await asyncpg.connect(dsn)
            break
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > limit:
                raise
            await asyncio.sleep(0.1)
    try:
        count = await connection.fetchval("SELECT count(*) FROM durable.quarantine")
        return int(count)
    finally:
        await connection.close()
