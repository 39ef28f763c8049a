"""An agent with a method of its own, driven by HTTP.

Run: durable dev examples/agents_api/http_counter.py

Then: curl -X POST http://127.0.0.1:8787/agents/turnstile/north
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypedDict

from agents import Agent, Request, Response


class TurnstileState(TypedDict):
    """How many have passed, and when the last one did."""

    counter: int
    last_updated: str | None


class Turnstile(Agent[Any, TurnstileState]):
    """POST counts somebody in, anything else reads."""

    initial_state = TurnstileState(counter=0, last_updated=None)

    async def on_request(self, request: Request) -> Response:
        """Answer with the state; nothing leaves before a change is durable."""
        if request.method == "POST":
            self.increment_counter()
        return Response.json(self.state)

    def increment_counter(self) -> None:
        """Reading and writing the state needs no await, so nothing can get between."""
        self.set_state(
            {
                "counter": self.state["counter"] + 1,
                "last_updated": datetime.now(UTC).isoformat(),
            }
        )
