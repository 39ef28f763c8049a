"""Agents for many clients: they step, stroll, and are slow on purpose."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from agents import Agent, Request, Response, StreamingResponse, callable

# A stroll takes so long, however many chunks it has.
STROLL_SECONDS = 2.0


class Stroller(Agent[Any, Any]):
    """Counts its steps; each is told to all clients."""

    initial_state = {"count": 0}

    @callable()
    def step(self, number: int) -> int:
        self.set_state({"count": self.state["count"] + 1})
        return number

    @callable(streaming=True)
    async def stroll(self, stream: StreamingResponse, number: int, count: int) -> None:
        for place in range(count):
            stream.send(place)
            await asyncio.sleep(STROLL_SECONDS / count)
        stream.end(number)

    def on_request(self, request: Request) -> Response:
        """The count; POST adds a step."""
        if request.method == "POST":
            self.step(0)
        return Response.json({"count": self.state["count"], "pid": os.getpid()})
