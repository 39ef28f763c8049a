"""10,000 sockets that say nothing, each on an agent of its own.

Each agent counts to one, so that it has state of its own; then all are left alone.
The row passes when the node holds no activation any more, every state is in Postgres,
the memory per socket is within its bound and sockets picked at random still answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.benchmarks.processes import Server
from tests.benchmarks.targets import Verdict

OPENERS = 48
SAMPLE = 100
SETTLE = 45.0
MOST_KB = 30.0

STORED = """
    SELECT count(*) FROM durable.agent_state
    WHERE class = 'BenchAgent' AND name LIKE $1 || '%' AND (state ->> 'count')::int = 1
"""


class IdleError(Exception):
    """The workload could not be carried out; the text says where it stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleResult:
    """What was seen; ``activations`` is ``None`` when the node can't tell."""

    sockets: int
    opened_s: float
    kb_per_socket: float
    activations: int | None
    stored: int
    answered: int

    def verdict(self) -> Verdict:
        """The row of the table."""
        wanted = min(SAMPLE, self.sockets)
        passed = (
            self.kb_per_socket <= MOST_KB
            and self.activations == 0
            and self.stored == self.sockets
            and self.answered == wanted
        )
        left = "unknown" if self.activations is None else self.activations
        return Verdict(
            title=f"{self.sockets:,} idle sockets, one agent each",
            ours=f"{self.kb_per_socket:.1f} kB each",
            reference="",
            result=f"{self.kb_per_socket:.1f} kB",
            target=f"<= {MOST_KB:g} kB",
            passed=passed,
            remark=f"activations left: {left}, states in Postgres: {self.stored:,}, "
            f"answered: {self.answered} of {wanted}, opened in {self.opened_s:.1f} s",
        )


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    tree = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            tree += process_tree(int(child))
    return tree


def memory_kb(pid: int) -> float:
    """Proportional set size of a process tree: shared pages are counted once."""
    total = 0.0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += float(line.split()[1])
    return total


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal that would otherwise end it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


async def live_activations(server: Server, patience: float = 5.0) -> int | None:
    """Ask a node by SIGUSR1 how many activations it holds.

    The node answers with one JSON line on stderr, ``{"activations": n, …}``.
    """
    if not catches(server.pid, signal.SIGUSR1):
        return None
    before = server.log.stat().st_size
    server.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with server.log.open("rb") as log:
            log.seek(before)
            for line in log:
                if line.startswith(b'{"activations"') and line.endswith(b"\n"):
                    return int(json.loads(line)["activations"])
        await asyncio.sleep(0.05)  # a file of another process: nothing to wait on
    return None


async def call(socket: aiohttp.ClientWebSocketResponse, method: str) -> Any:
    """One RPC on a socket; frames of other kinds are skipped."""
    await socket.send_json({"type": "rpc", "id": "1", "method": method, "args": []})
    async with asyncio.timeout(20):
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            if frame.get("type") == "rpc":
                if not frame["success"]:
                    raise IdleError(f"{method}: {frame.get('error')}")
                return frame["result"]
    raise IdleError(f"{method}: the socket was closed ({socket.close_code})")


class Sockets:
    """The clients: opened some at a time, kept open until the block ends."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, prefix: str):
        """Nothing is opened yet."""
        self._session = session
        self._url = f"{server.url}/agents/bench-agent/{prefix}"
        self.open: list[aiohttp.ClientWebSocketResponse] = []

    async def _open_one(self, number: int) -> None:
        socket = await self._session.ws_connect(
            f"{self._url}{number}", max_msg_size=0, autoping=True
        )
        self.open.append(socket)
        count = await call(socket, "increment")
        if count != 1:
            raise IdleError(f"a new agent counts {count}")

    async def open_all(self, count: int) -> None:
        """Open ``count`` sockets, each with an increment of its agent."""
        numbers = iter(range(count))

        async def open_some() -> None:
            for number in numbers:
                await self._open_one(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(OPENERS):
                group.create_task(open_some())

    async def ask_some(self, seed: int) -> int:
        """How many of some sockets, picked at random, answer with their count."""
        picked = random.Random(seed).sample(self.open, min(SAMPLE, len(self.open)))
        answered = 0
        for socket in picked:
            if socket.closed:
                continue
            answered += await call(socket, "getCounter") == 1
        return answered


async def measure(server: Server, dsn: str, count: int, seed: int) -> IdleResult:
    """Open ``count`` sockets on a node that was just started, and leave them alone."""
    prefix = f"idle-{time.time_ns()}-"
    connector = aiohttp.TCPConnector(limit=0)
    # Reading is driven by the calls: no read limit may close a silent socket.
    async with aiohttp.ClientSession(connector=connector) as session:
        warm = Sockets(session, server, f"warm-{prefix}")
        await warm.open_all(OPENERS)
        for socket in warm.open:
            await socket.close()
        before = memory_kb(server.pid)
        sockets = Sockets(session, server, prefix)
        started = time.monotonic()
        await sockets.open_all(count)
        opened_s = time.monotonic() - started
        activations = await settle(server)
        grown = memory_kb(server.pid) - before
        stored = await stored_states(dsn, prefix)
        answered = await sockets.ask_some(seed)
    return IdleResult(
        sockets=count,
        opened_s=opened_s,
        kb_per_socket=grown / count,
        activations=activations,
        stored=stored,
        answered=answered,
    )


async def settle(server: Server) -> int | None:
    """Wait until the node holds no activation; how many are left in the end."""
    deadline = time.monotonic() + SETTLE
    left = await live_activations(server)
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.5)  # eviction is the node's own, by its clock
        left = await live_activations(server)
    return left


async def stored_states(dsn: str, prefix: str) -> int:
    """How many of the agents have their count in Postgres."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(STORED, prefix))
    finally:
        await connection.close()
