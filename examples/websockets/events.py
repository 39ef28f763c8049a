"""Closed connections and errors, and a word to all the others.

Run: durable dev examples/websockets/events.py

Connect to ws://127.0.0.1:8787/agents/switchboard/one?role=operator
"""

from __future__ import annotations

import json
import logging

from agents import Agent, Connection, ConnectionContext

logger = logging.getLogger(__name__)


class Switchboard(Agent):
    """Operators hear of everybody who leaves, and of every error."""

    def get_connection_tags(
        self, connection: Connection, ctx: ConnectionContext
    ) -> list[str]:
        """Tags find connections again, also after the agent has slept."""
        return [ctx.request.query.get("role", "caller")]

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Pass it on to all but the sender; "oops" shows what an error does."""
        if message == "oops":
            raise RuntimeError("the wire is down")
        self.broadcast(message, without=[connection.id])

    async def on_error(
        self, error: BaseException, connection: Connection | None = None
    ) -> None:
        """The connection stays open; what to tell whom is up to you."""
        logger.warning("WebSocket error", exc_info=error)
        self.tell_operators({"event": "error", "text": str(error)})

    async def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> None:
        """Clean up after a connection that is gone."""
        logger.info("Closed: %s %s, clean: %s", code, reason, was_clean)
        self.tell_operators({"event": "closed", "code": code, "clean": was_clean})

    def tell_operators(self, news: dict[str, object]) -> None:
        """Send to the connections with one tag."""
        for operator in self.get_connections("operator"):
            operator.send(json.dumps(news))
