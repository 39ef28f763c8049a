"""Answering HTTP.

Run: durable dev examples/http_sse/hello.py

Then: curl http://127.0.0.1:8787/agents/hello/world
"""

from __future__ import annotations

from agents import Agent, Request, Response


class Hello(Agent):
    """Answers everything with the same words."""

    async def on_request(self, request: Request) -> Response:
        """Return a Response; without this method the answer is 404."""
        return Response("Hello from Agent!")
