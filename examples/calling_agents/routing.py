"""Addressing by URL: /agents/CLASS-IN-KEBAB-CASE/NAME goes to that instance.

Run: durable dev examples/calling_agents/routing.py

Then: curl http://127.0.0.1:8787/agents/trip-planner/rome
"""

from __future__ import annotations

from typing import Any

from agents import Agent, Request, Response, route_agent_request


class TripPlanner(Agent):
    """One instance for each trip."""

    async def on_request(self, request: Request) -> Response:
        """Say who answers."""
        return Response.json({"trip": self.name, "path": request.path})


async def fetch(request: Request, env: Any) -> Response:
    """Try the agents first; WebSockets of the npm clients come this way, too."""
    return await route_agent_request(request, env) or Response.json(
        {"msg": "no agent here"}, status=404
    )
