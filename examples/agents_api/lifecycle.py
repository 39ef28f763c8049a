"""Every hook of an agent in one class.

Run: durable dev examples/agents_api/lifecycle.py

Then: curl http://127.0.0.1:8787/agents/front-desk/hotel
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, TypedDict

from agents import Agent, Connection, ConnectionContext, Request, Response, callable

logger = logging.getLogger(__name__)


class DeskState(TypedDict):
    """What clients of the desk see."""

    counter: int
    messages: list[str]
    last_updated: str | None


class FrontDesk(Agent[Any, DeskState]):
    """Say what happens, when it happens."""

    initial_state = DeskState(counter=0, messages=[], last_updated=None)

    async def on_start(self, props: object = None) -> None:
        """Run once when the agent is made or wakes up, before anything else."""
        logger.info("Desk %s starts with %s", self.name, self.state)

    async def on_request(self, request: Request) -> Response:
        """Answer an HTTP request to this agent."""
        return Response(f"{self.name} is open")

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        """Greet a WebSocket: headers, cookies and the URL are on ``ctx.request``."""
        if ctx.request.query.get("guest") == "banned":
            # 4000-4999 tells the stock client not to come back.
            connection.close(4403, "Not welcome here")
            return
        connection.send("Welcome")

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Take a message: text is str, binary is bytes."""
        connection.send("Received your message")

    async def on_error(
        self, error: BaseException, connection: Connection | None = None
    ) -> None:
        """Hear of what a hook raised, or of a broken connection."""
        logger.error("Trouble at desk %s", self.name, exc_info=error)

    async def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> None:
        """Say good-bye to a WebSocket that has closed."""
        logger.info("Guest left: %s %s", code, reason)

    async def on_state_changed(
        self, state: DeskState, source: Connection | str
    ) -> None:
        """React to a new state, whether this agent or a client made it."""
        author = "server" if source == "server" else "client"
        logger.info("State by %s: %s", author, state)

    @callable()
    async def check_in(self, guest: str) -> int:
        """Change the state in a method of your own."""
        self.set_state(
            {
                "counter": self.state["counter"] + 1,
                "messages": [*self.state["messages"], f"{guest} checked in"],
                "last_updated": datetime.now(UTC).isoformat(),
            }
        )
        return self.state["counter"]
