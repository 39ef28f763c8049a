"""A WebSocket that says back what it hears.

Run: durable dev examples/websockets/echo.py

Connect to ws://127.0.0.1:8787/agents/echo/one
"""

from __future__ import annotations

from agents import Agent, Connection, ConnectionContext


class Echo(Agent):
    """Text comes back as text, bytes as bytes."""

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        """Nothing to accept: it is open. Look at the request if you like."""
        connection.set_state({"browser": ctx.request.headers.get("User-Agent", "")})

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Answer this connection only."""
        connection.send(message)
