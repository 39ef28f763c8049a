"""A small server in place of the node, honest or with one fault built in.

The kill tests prove nothing unless they turn red for a server that is wrong. This one
speaks just enough of the wire for their clients: state in memory, group commit, one
JSON document per agent, written through a function whose name the tap knows.

``STAND_IN_FAULT`` chooses what is wrong:

- ``none``: replies after the commit, as it should be;
- ``early``: replies before the commit;
- ``torn``: commits the count without the token that explains it, every so often;
- ``double``: applies an append twice, every so often.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import uvloop
from aiohttp import WSMsgType, web

from tests.benchmarks.reference import serve

SCHEMA = """
    CREATE SCHEMA IF NOT EXISTS durable;
    CREATE TABLE IF NOT EXISTS durable.document (name text PRIMARY KEY, body text);
    CREATE OR REPLACE FUNCTION durable.commit_documents(names text[], bodies text[])
    RETURNS void LANGUAGE sql AS $$
        INSERT INTO durable.document SELECT * FROM unnest(names, bodies)
        ON CONFLICT (name) DO UPDATE SET body = excluded.body
    $$;
"""
LOAD = "SELECT body FROM durable.document WHERE name = $1"
COMMIT = "SELECT durable.commit_documents($1, $2)"


@dataclass(slots=True)
class Counter:
    """One agent's state."""

    increments: dict[str, int] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    count: int = 0
    sockets: set[web.WebSocketResponse] = field(default_factory=set)

    def apply(self, do: str, token: str, *, twice: bool, torn: bool) -> int:
        """Do one operation in memory; its position."""
        if do == "append":
            self.entries += [token, token] if twice else [token]
            return len(self.entries) - 1
        self.count += 1
        if not torn:
            self.increments[token] = self.count
        return self.count

    def body(self) -> dict[str, Any]:
        """What is read and what is stored."""
        return {
            "count": self.count,
            "increments": self.increments,
            "entries": self.entries,
        }


class StandIn:
    """All agents of the process and their group commit."""

    def __init__(self, connection: asyncpg.Connection, fault: str) -> None:
        """Commit and read on one connection."""
        self._connection = connection
        self._fault = fault
        self._counters: dict[str, Counter] = {}
        self._dirty: dict[str, Counter] = {}
        self._wake = asyncio.Event()
        self._durable: asyncio.Future[None] = asyncio.Future()
        self._committing: asyncio.Future[None] | None = None
        self._one = asyncio.Lock()

    async def counter(self, name: str) -> Counter:
        """The agent, read from Postgres when it isn't in memory."""
        async with self._one:
            if name not in self._counters:
                body = await self._connection.fetchval(LOAD, name)
                known = json.loads(body) if body else {}
                self._counters[name] = Counter(**known)
        return self._counters[name]

    async def do(self, name: str, do: str, token: str) -> int:
        """One operation; returns when the reply may leave."""
        counter = await self.counter(name)
        wrong = random.random() < 0.02
        position = counter.apply(
            do,
            token,
            twice=wrong and self._fault == "double",
            torn=wrong and self._fault == "torn",
        )
        self._dirty[name] = counter
        self._wake.set()
        if self._fault != "early":
            await asyncio.shield(self._durable)
        return position

    async def read(self, name: str) -> dict[str, Any]:
        """All of an agent, once it is durable: what is read has left, too."""
        body = copy.deepcopy((await self.counter(name)).body())
        pending = self._durable if self._dirty else self._committing
        if pending is not None and self._fault != "early":
            await asyncio.shield(pending)
        return body

    async def commit_forever(self) -> None:
        """Write what is dirty, one commit at a time; then let the replies go."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            durable, self._committing = self._durable, self._durable
            self._durable = asyncio.Future()
            counts = [(counter, counter.count) for counter in dirty.values()]
            bodies = [json.dumps(counter.body()) for counter in dirty.values()]
            async with self._one:
                await self._connection.execute(COMMIT, list(dirty), bodies)
            durable.set_result(None)
            for counter, count in counts:
                await broadcast(counter, count)


async def broadcast(counter: Counter, count: int) -> None:
    """Show the count to every socket of an agent."""
    for socket in list(counter.sockets):
        if not socket.closed:
            await socket.send_json(
                {"type": "cf_agent_state", "state": {"count": count}}
            )


STAND_IN: web.AppKey[StandIn] = web.AppKey("stand_in", StandIn)


async def answer(request: web.Request) -> web.StreamResponse:
    """The node's HTTP and WebSocket side, as far as the clients use it."""
    stand_in = request.app[STAND_IN]
    name = request.match_info["name"]
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await talk(request, stand_in, name)
    if request.method == "GET":
        return web.json_response(await stand_in.read(name))
    position = await stand_in.do(name, request.query["do"], request.query["token"])
    return web.json_response({"position": position})


async def talk(
    request: web.Request, stand_in: StandIn, name: str
) -> web.StreamResponse:
    """Serve calls on one socket; each is a task, as calls may be in flight together."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    counter = await stand_in.counter(name)
    counter.sockets.add(socket)

    async def call(frame: dict[str, Any]) -> None:
        position = await stand_in.do(name, frame["method"], frame["args"][0])
        if not socket.closed:
            await socket.send_json(
                {"type": "rpc", "id": frame["id"], "success": True, "result": position}
            )

    async with asyncio.TaskGroup() as group:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                group.create_task(call(json.loads(message.data)))
    counter.sockets.discard(socket)
    return socket


async def main() -> None:
    """Serve on the database of DURABLE_DATABASE_URL."""
    connection = await asyncpg.connect(os.environ["DURABLE_DATABASE_URL"])
    await connection.execute(SCHEMA)
    stand_in = StandIn(connection, os.environ["STAND_IN_FAULT"])
    app = web.Application()
    app[STAND_IN] = stand_in
    app.router.add_route("*", "/agents/{class}/{name}", answer)
    async with asyncio.TaskGroup() as group:
        committing = group.create_task(stand_in.commit_forever())
        await serve(app)
        committing.cancel()


if __name__ == "__main__":
    uvloop.run(main())
