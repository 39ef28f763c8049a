"""Server-Sent Events that a browser can pick up where it lost them.

Run: durable dev examples/http_sse/ticker.py

Then: curl -N "http://127.0.0.1:8787/agents/ticker/one?until=5"
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Request, Response, event_stream


class Ticker(Agent):
    """Counts; every event has an id, so an EventSource says what it saw last."""

    async def on_request(self, request: Request) -> Response:
        """Go on after ``Last-Event-ID``: connections break, servers are updated."""
        seen = int(request.headers.get("Last-Event-ID", 0))
        until = min(int(request.query.get("until", 10)), 100)
        return event_stream(self.ticks(seen + 1, until))

    async def ticks(self, first: int, last: int) -> AsyncIterator[dict[str, Any]]:
        """Yield one event after another; a client that reads slowly slows us down."""
        for number in range(first, last + 1):
            yield {"event": "tick", "id": str(number), "data": str(number)}
            await asyncio.sleep(0.05)
