"""Addressing by name: your own URL scheme, and the agent gets the request as it is.

Run: durable dev examples/calling_agents/named.py

Then: curl http://127.0.0.1:8787/anything
"""

from __future__ import annotations

from typing import Any

from agents import Agent, Request, Response, get_agent_by_name


class Librarian(Agent):
    """There is one, and everybody talks to it."""

    async def on_request(self, request: Request) -> Response:
        """Answer for the whole site."""
        return Response(f"{self.name} looks up {request.path}")


async def fetch(request: Request, env: Any) -> Response:
    """Pass every request straight to one instance, made when it is first needed."""
    librarian = await get_agent_by_name(Librarian, "main-hall")
    return await librarian.fetch(request)
