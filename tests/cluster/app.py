"""Agents of a fleet: they count, stream, tell where they live, and call each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
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
from durable import Deadlock, RemoteError

VALUES: list[Any] = [
    datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    b"\x00\xff",
    {1, 2, 3},
    frozenset({"a"}),
    (1, ("two", None)),
    Decimal("1.10"),
    2**100,
    {"nested": [{"deep": (b"x", {4})}]},
]


class Room(Agent[Any, Any]):
    """One room; ``where`` is the process that its owner is."""

    initial_state = {"count": 0}

    def on_start(self) -> None:
        self.ctx.set_websocket_auto_response("ping", "pong")

    def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        connection.set_state({"joined": ctx.request.query.get("who", "nobody")})

    def get_connection_tags(
        self, connection: Connection, ctx: ConnectionContext
    ) -> list[str]:
        return [ctx.request.query.get("tag", "plain")]

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        state = connection.state or {}
        connection.send(f"{state.get('joined')} {connection.tags[1]} {message!r}")

    def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> None:
        self.broadcast(f"left with {code}")

    @callable()
    def increment(self) -> int:
        self.set_state({"count": self.state["count"] + 1})
        return int(self.state["count"])

    @callable()
    def where(self) -> int:
        return os.getpid()

    @callable()
    async def slow(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.increment()

    @callable()
    def answered(self) -> list[float]:
        """When sockets were answered automatically."""
        stamp = self.ctx.get_websocket_auto_response_timestamp
        times = [stamp(websocket) for websocket in self.ctx.get_websockets()]
        return [time.timestamp() for time in times if time is not None]

    @callable()
    async def circle(self, name: str) -> str:
        """Wait, with the gate shut, for another room that calls this one."""
        other = self.env.Room.get_by_name(name)

        async def block() -> str:
            try:
                return str(await other.ask(self.name, "where"))
            except Deadlock as error:
                return str(error)

        return await self.ctx.block_concurrency_while(block)

    @callable()
    def count_of(self, tag: str) -> int:
        return len(self.get_connections(tag))

    def echo(self, *values: Any) -> list[Any]:
        return list(values)

    def fail(self, text: str) -> None:
        raise LookupError(text)

    @callable()
    async def ask(self, name: str, method: str, *args: Any) -> Any:
        """Call another room."""
        return await getattr(self.env.Room.get_by_name(name), method)(*args)

    def text(self, size: int) -> str:
        return "x" * size

    @callable()
    async def size_of(self, name: str, size: int) -> int:
        """How much comes back from another room."""
        return len(await self.env.Room.get_by_name(name).text(size))

    @callable()
    async def round_trip(self, name: str) -> bool:
        """Whether all kinds of values come back from another room as they went."""
        answer = await self.env.Room.get_by_name(name).echo(*VALUES)
        return bool(answer == VALUES) and all(
            type(a) is type(b) for a, b in zip(answer, VALUES, strict=True)
        )

    @callable()
    async def failure(self, name: str) -> list[Any]:
        try:
            await self.env.Room.get_by_name(name).fail("what")
        except RemoteError as error:
            flags = ("remote", "retryable", "overloaded")
            return [str(error), *(getattr(error, flag) for flag in flags)]
        return []

    async def on_request(self, request: Request) -> Response:
        if request.path.endswith("/stream"):
            return event_stream(self.ticks(int(request.query["count"])))
        if request.path.endswith("/echo"):
            # As it comes: a body of any size passes through.
            return Response(request.body)
        if request.path.endswith("/crash"):
            os._exit(1)
        if request.method == "POST":
            if "seconds" in request.query:
                self.broadcast("posting")
            await asyncio.sleep(float(request.query.get("seconds", "0")))
            return Response(str(self.increment()))
        return Response(str(os.getpid()))

    async def ticks(self, count: int) -> AsyncIterator[str]:
        for number in range(count):
            yield str(number)
            await asyncio.sleep(0.005)
