"""Messages of your own over a WebSocket, with state for each connection.

Run: durable dev examples/agents_api/connection_messages.py

Connect to ws://127.0.0.1:8787/agents/lounge/main and send {"type": "update"}
"""

from __future__ import annotations

import json
import time
from typing import Any, TypedDict

from agents import Agent, Connection


class LoungeState(TypedDict):
    """Shared by all connections."""

    updates: int


class Lounge(Agent[Any, LoungeState]):
    """Keep one state for everybody and one for each connection."""

    initial_state = LoungeState(updates=0)

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Answer ``{"type": "update"}``; say so if it isn't JSON."""
        if isinstance(message, bytes):
            return
        try:
            asked = json.loads(message)
        except ValueError:
            connection.send(json.dumps({"error": "Invalid message format"}))
            return
        if isinstance(asked, dict) and asked.get("type") == "update":
            # This connection's own state: kept while the agent sleeps.
            connection.set_state(
                {**(connection.state or {}), "last_active": time.time()}
            )
            # The agent's state: every client gets it.
            self.set_state({"updates": self.state["updates"] + 1})
            # And an answer to this client only.
            connection.send(json.dumps({"type": "updated", "status": "success"}))
