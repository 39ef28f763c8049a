"""Agents that misbehave, for the tests of bad input and of draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import (
    Agent,
    Connection,
    ConnectionContext,
    Request,
    Response,
    callable,
    event_stream,
)
from durable import DurableObject


class Room(Agent[Any, Any]):
    """Behaves; the others' neighbour."""

    initial_state = {"count": 0}

    async def on_request(self, request: Request) -> Response:
        if request.path.endswith("/stream"):
            return event_stream(self.ticks())
        if request.path.endswith("/slow"):
            self.broadcast("slow begins")
            await asyncio.sleep(float(request.query["seconds"]))
            self.set_state({"count": self.state["count"] + 1})
            return Response("slow ends")
        if request.path.endswith("/body"):
            return Response(str(len(await request.bytes())))
        return Response.json(self.state)

    async def ticks(self) -> AsyncIterator[str]:
        try:
            for number in range(1_000_000):
                yield str(number)
                await asyncio.sleep(0.01)
        finally:
            self.set_state({"count": -1})

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        connection.send(str(len(message)))

    @callable()
    def increment(self) -> int:
        self.set_state({"count": self.state["count"] + 1})
        return int(self.state["count"])

    @callable()
    def fail(self) -> None:
        raise RuntimeError("it failed")

    @callable()
    def not_json(self) -> Any:
        return {"deep": [1, {2, 3}]}

    @callable()
    def give_up(self) -> None:
        self.ctx.abort("given up")

    @callable()
    def flood(self, frames: int, size: int) -> None:
        """Sends to everybody but itself, more than a slow reader's buffer takes."""
        for _ in range(frames):
            self.broadcast("x" * size, without=["caller"])

    @callable()
    def fill(self, size: int) -> None:
        self.set_state({"count": self.state["count"] + 1, "filler": "x" * size})


class Stubborn(Agent[Any, Any]):
    """Its start fails, or takes too long, until it is told otherwise."""

    healed = False

    async def on_start(self, props: Any = None) -> None:
        if Stubborn.healed:
            return
        if self.name.startswith("raises"):
            raise RuntimeError("can't start today")
        await asyncio.sleep(60)

    async def on_request(self, request: Request) -> Response:
        return Response("started")


class Shouter(Agent[Any, Any]):
    """Says too much before its client can read."""

    def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        for _ in range(20):
            connection.send("x" * 10_000)


class Impostor(DurableObject):
    """Answers an upgrade with 101, but has accepted no socket."""

    async def fetch(self, request: Request) -> Response:
        return Response(None, status=101)


class Healer(Agent[Any, Any]):
    """Lets Stubborn start."""

    async def on_request(self, request: Request) -> Response:
        Stubborn.healed = True
        return Response("healed")
