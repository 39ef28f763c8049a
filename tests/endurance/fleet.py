"""A fleet of node processes whose members are replaced, and a crowd of npm clients."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from tests.benchmarks.processes import ROOT, Server, node_environment, start
from tests.support.settled import nobody_claims, wait_until_settled

APP = "tests/endurance/app.py"
CROWD = ROOT / "tests" / "npm" / "crowd.mjs"
CROWD_SECONDS = 120.0


def free_port() -> int:
    """A port for a node that is to come back to it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@asynccontextmanager
async def database(work: Path, shards: int) -> AsyncIterator[str]:
    """A Postgres of its own, migrated."""
    # Postgres runs as an ordinary user also when we are root.
    await asyncio.to_thread(work.chmod, 0o755)
    async with embedded_postgres(work / ".durable") as dsn:
        await asyncio.to_thread(migrate, dsn, shards)
        yield dsn


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Front ends at ports that they keep, and workers."""

    dsn: str
    work: Path
    settings: dict[str, str] = field(default_factory=dict)
    fronts: list[Server] = field(default_factory=list)
    workers: list[Server] = field(default_factory=list)
    _started: int = 0

    @asynccontextmanager
    async def running(self, fronts: int, workers: int) -> AsyncIterator[None]:
        """All of them, each worker with its share of the shards."""
        try:
            with nobody_claims(self.dsn):
                for _ in range(workers):
                    self.workers.append(await self.start("worker", 0))
                for _ in range(fronts):
                    self.fronts.append(await self.start("front", free_port()))
            await self.settled()
            yield
        finally:
            nodes = (*self.fronts, *self.workers)
            await asyncio.gather(*(n.stop(60) for n in nodes), return_exceptions=True)

    async def start(self, role: str, port: int) -> Server:
        """Start one."""
        self._started += 1
        return await start(
            (sys.executable, "-m", "server", "serve", APP, "--port", str(port)),
            environment=node_environment(
                DURABLE_DATABASE_URL=self.dsn,
                DURABLE_ROLE=role,
                DURABLE_ADMIN_PORT="0",
                DURABLE_LOG_LEVEL="info",
                **self.settings,
            ),
            log=self.work / f"{role}-{self._started}.log",
        )

    async def replace_worker(self, place: int) -> None:
        """SIGTERM, and a new process once it has ended."""
        await self.workers[place].stop(60)
        self.workers[place] = await self.start("worker", 0)
        await self.settled()

    async def replace_front(self, place: int) -> None:
        """The same, at the same port."""
        port = urlsplit(self.fronts[place].url).port
        assert port is not None
        await self.fronts[place].stop(60)
        self.fronts[place] = await self.start("front", port)

    async def settled(self) -> None:
        """Return when each shard is where it should be."""
        await asyncio.to_thread(wait_until_settled, self.dsn, len(self.workers))

    async def shards(self) -> dict[int, tuple[Any, int]]:
        """Shard → (owner, epoch)."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows = await connection.fetch("SELECT id, owner, epoch FROM durable.shard")
        finally:
            await connection.close()
        return {row["id"]: (row["owner"], row["epoch"]) for row in rows}


class Crowd:
    """The npm clients, in a process of Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def connected(
        cls,
        fronts: Sequence[Server],
        *,
        sockets: int,
        agents: int,
        every: float,
        streams: int = 10,
    ) -> AsyncIterator[Crowd]:
        """All are connected; each calls every so many seconds (0: never).

        One in ``streams`` calls streams.
        """
        node = shutil.which("node")
        assert node is not None, "there is no Node"
        process = await asyncio.create_subprocess_exec(
            node,
            str(CROWD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        crowd = cls(process)
        options = {
            "hosts": [urlsplit(front.url).netloc for front in fronts],
            "sockets": sockets,
            "agents": agents,
            "every": every * 1000,
            "streams": streams,
        }
        try:
            assert await crowd._say(json.dumps(options)) == "ready"
            yield crowd
        finally:
            process.kill()
            await process.wait()

    async def ask(self, command: str) -> Any:
        """One of the client's commands."""
        return json.loads(await self._say(command))

    async def _say(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018  # both are pipes
        stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(CROWD_SECONDS):
            return (await stdout.readline()).decode().strip()
