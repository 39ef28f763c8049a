"""Agents under test: state, its refusal and its hooks; a journal for all of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import (
    Agent,
    Connection,
    ConnectionContext,
    callable,
    get_current_agent,
)


def who(source: Any) -> str:
    """Name the source of a state change: `server` or a connection's id."""
    return source if isinstance(source, str) else f"connection:{source.id}"


class Journalled(Agent):
    """Keeps the calls that it gets, and gates that a test opens."""

    async def on_start(self, props: Any = None) -> None:
        self.journal: list[Any] = [["start", props]]
        self.gates: dict[str, asyncio.Event] = {}

    def gate(self, name: str) -> asyncio.Event:
        """Return the gate of that name; it starts shut."""
        return self.gates.setdefault(name, asyncio.Event())

    @callable()
    async def wait_for(self, gate: str) -> str:
        self.journal.append(["waiting", gate])
        await self.gate(gate).wait()
        return gate

    @callable()
    def release(self, gate: str) -> None:
        self.gate(gate).set()

    @callable()
    def read_journal(self) -> list[Any]:
        return self.journal

    @callable()
    def close_me(self, code: int, reason: str = "") -> None:
        connection = get_current_agent().connection
        assert connection is not None
        connection.close(code, reason)


class StateAgent(Journalled):
    """State: by clients, by the server, refused, unset, null."""

    initial_state = {"count": 0}
    label = "a data attribute"

    def validate_state_change(self, next_state: Any, source: Any) -> None:
        self.journal.append(["validate", next_state, who(source)])
        if isinstance(next_state, dict) and next_state.get("count", 0) < 0:
            raise ValueError("a secret detail")

    async def on_state_changed(self, state: Any, source: Any) -> None:
        self.journal.append(["changed", state, who(source)])
        if isinstance(state, dict) and state.get("raise"):
            raise RuntimeError("on_state_changed failed")

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        if message == "raise":
            raise RuntimeError("on_message failed")
        self.journal.append(["message", message])
        connection.send(f"heard:{message!s}")

    async def on_error(self, error: BaseException, connection: Any = None) -> None:
        owner = None if connection is None else connection.id
        self.journal.append(["error", str(error), owner])

    def should_connection_be_readonly(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        return ctx.request.query.get("readonly") == "1"

    def should_send_protocol_messages(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        return ctx.request.query.get("silent") != "1"

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        greeting = ctx.request.query.get("greet")
        if greeting:
            connection.send(json.dumps({"type": "greeting", "text": greeting}))

    @callable(description="Adds to the count")
    async def increment(self, by: int = 1) -> int:
        self.set_state({"count": self.state["count"] + by})
        return int(self.state["count"])

    @callable()
    def count(self) -> int:
        return int(self.state["count"])

    @callable()
    def replace(self, state: Any) -> None:
        self.journal.append(["before"])
        self.set_state(state)
        self.journal.append(["after"])

    @callable()
    def same(self, value: Any) -> Any:
        return value

    @callable()
    def nothing(self) -> None:
        return None

    @callable()
    def not_json(self) -> Any:
        return {"bad": float("nan")}

    @callable()
    async def fail(self, text: str) -> None:
        raise ValueError(text)

    def undecorated(self) -> str:
        return "never reached by a client"


class LateStateAgent(Journalled):
    """No initial state: one is set by a call, null included."""

    @callable()
    def replace(self, state: Any) -> None:
        self.set_state(state)


class QuietAgent(Journalled):
    """Sends no identity."""

    initial_state = {"quiet": True}
    send_identity_on_connect = False


class OldHookAgent(Journalled):
    """Uses the older name of on_state_changed."""

    initial_state = {"count": 0}

    async def on_state_update(self, state: Any, source: Any) -> None:
        self.journal.append(["updated", state, who(source)])
