"""A fleet: nodes by role, who owns which room, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.server.nodes import Caller, Client, Node, client, node

APP = "tests/cluster/app.py"


class Fleet:
    """Node processes; the keyword arguments are their settings."""

    def __init__(self, database_url: str, logs: Path, stack: AsyncExitStack) -> None:
        self.database_url = database_url
        self.app = APP
        self._logs = logs
        self._stack = stack
        self.nodes: list[Node] = []

    async def start(self, role: str, **settings: str) -> Node:
        """Start a node."""
        log = self._logs / f"{role}-{len(self.nodes)}.log"
        options = {"DURABLE_LEASE_SECONDS": "5", "DURABLE_ROLE": role, **settings}
        running = node(self.database_url, log, self.app, **options)
        made = await self._stack.enter_async_context(running)
        self.nodes.append(made)
        return made

    async def client(self, front: Node) -> Client:
        """A client of a front end."""
        return await self._stack.enter_async_context(client(front.url))

    async def join(self, to: Client, room: str, query: str = "") -> Caller:
        """A socket to a room."""
        caller = await to.call(f"/agents/room/{room}?{query}")
        await self._stack.enter_async_context(caller)
        return caller

    def of_process(self, pid: int) -> Node:
        """The node that is this process."""
        (found,) = [n for n in self.nodes if n.process.pid == pid]
        return found

    async def owner(self, to: Client, room: str) -> Node:
        """The node that owns a room."""
        status, text = await to.get(f"/agents/room/{room}")
        assert status == 200, text
        return self.of_process(int(text))

    async def room_of(self, to: Client, owner: Node) -> str:
        """A room that this node owns."""
        # A worker that has just come gets its shards little by little.
        async with asyncio.timeout(20):
            for number in itertools.count():
                room = f"room{number % 200}"
                if await self.owner(to, room) is owner:
                    break
        return room

    def show_logs(self) -> None:
        """For the report of a test that fails."""
        for path in sorted(self._logs.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text()[-4000:]}")


async def until(happens: Callable[[], bool], limit: float = 20) -> None:
    """Wait for what only shows from outside, such as in a log of another process."""
    async with asyncio.timeout(limit):
        while not happens():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.005)


def result(frame: dict[str, Any]) -> Any:
    """The result of a call."""
    assert frame.get("success"), frame
    return frame["result"]
