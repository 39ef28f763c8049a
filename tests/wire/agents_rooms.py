"""Agents under test: streams, and connections with all that they carry."""

from __future__ import annotations

from typing import Any

from agents import (
    Connection,
    ConnectionContext,
    Request,
    Response,
    StreamingResponse,
    callable,
    get_current_agent,
)
from tests.wire.agents_state import Journalled


class StreamAgent(Journalled):
    """Streaming methods that end in each possible way."""

    @callable(description="Counts", streaming=True)
    async def count_to(self, stream: StreamingResponse, n: int) -> None:
        for number in range(n):
            stream.send(number)
        stream.end("done")

    @callable(streaming=True)
    async def breaks(self, stream: StreamingResponse) -> None:
        stream.send("first")
        raise ValueError("broke off")

    @callable(streaming=True)
    async def ends_then_raises(self, stream: StreamingResponse) -> None:
        stream.end("ended")
        raise ValueError("after the end")

    @callable(streaming=True)
    async def says_error(self, stream: StreamingResponse) -> None:
        stream.error("an error of its own")

    @callable(streaming=True)
    async def never_ends(self, stream: StreamingResponse) -> None:
        stream.send("only chunk")

    @callable(streaming=True)
    async def after_end(self, stream: StreamingResponse) -> None:
        before = stream.is_closed
        stream.end("ended")
        late = [stream.send("late"), stream.end("again")]
        self.journal.append(["closed", before, stream.is_closed, *late])

    @callable(streaming=True)
    async def gated(self, stream: StreamingResponse, gate: str) -> None:
        stream.send("before the gate")
        await self.gate(gate).wait()
        stream.end("after the gate")


class RoomAgent(StreamAgent):
    """Connections: tags, state, flags, broadcast, refusal, close."""

    initial_state = {"room": True}

    def get_connection_tags(
        self, connection: Connection, ctx: ConnectionContext
    ) -> list[str]:
        tags = ctx.request.query.get("tags")
        return tags.split(",") if tags else []

    def should_connection_be_readonly(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        return ctx.request.query.get("readonly") == "1"

    def should_send_protocol_messages(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        return ctx.request.query.get("silent") != "1"

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        query = ctx.request.query
        replaced = ctx.request.headers.get("x-replaced")
        url = str(ctx.request.url)
        self.journal.append(["connect", connection.id, url, replaced])
        if "gate" in query:
            await self.gate(query["gate"]).wait()
            connection.send("through the gate")
        if "refuse" in query:
            connection.close(int(query["refuse"]), "refused")
        if "raise" in query:
            raise RuntimeError("on_connect failed")

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        self.journal.append(["message", connection.id, str(message)])
        connection.send(message)

    async def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> None:
        self.journal.append(["close", connection.id, code, reason, was_clean])

    async def on_request(self, request: Request) -> Response:
        if "release" in request.query:
            self.release(request.query["release"])
        return Response.json(self.journal)

    @callable()
    def me(self) -> dict[str, Any]:
        connection = get_current_agent().connection
        assert connection is not None
        return {
            "id": connection.id,
            "url": str(connection.url),
            "uri": str(connection.uri),
            "tags": list(connection.tags),
            "state": connection.state,
            "readonly": self.is_connection_readonly(connection),
            "protocol": self.is_connection_protocol_enabled(connection),
        }

    @callable()
    def remember(self, value: Any) -> None:
        connection = get_current_agent().connection
        assert connection is not None
        connection.set_state(value)

    @callable()
    def set_readonly(self, flag: bool) -> None:
        connection = get_current_agent().connection
        assert connection is not None
        self.set_connection_readonly(connection, flag)

    @callable()
    def replace(self, state: Any) -> None:
        self.set_state(state)

    @callable(description="Says it")
    def say(self, text: str, without: list[str]) -> None:
        self.broadcast(text, without=without)

    @callable()
    def ids(self, tag: str | None = None) -> list[str]:
        return sorted(each.id for each in self.get_connections(tag))

    @callable()
    def one(self, connection_id: str) -> str | None:
        connection = self.get_connection(connection_id)
        return None if connection is None else connection.id

    @callable()
    def methods(self) -> dict[str, Any]:
        return {
            name: {"description": each.description, "streaming": each.streaming}
            for name, each in self.get_callable_methods().items()
        }
