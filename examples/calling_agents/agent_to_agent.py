"""An agent that calls other agents.

Run: durable dev examples/calling_agents/agent_to_agent.py

Then: curl "http://127.0.0.1:8787/agents/tour/rome?stops=forum,pantheon"
"""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from agents import Agent, Request, Response, get_agent_by_name


class Tickets(TypedDict):
    """How many were sold."""

    sold: int


class Sight(Agent[Any, Tickets]):
    """One place to see, with its own count of tickets."""

    initial_state = Tickets(sold=0)

    async def sell(self, buyer: str) -> str:
        """Sell a ticket to another agent; no two get the same number."""
        self.set_state({"sold": self.state["sold"] + 1})
        return f"{buyer} at {self.name}, ticket {self.state['sold']}"


class Tour(Agent):
    """Buys at all its stops, at the same time."""

    async def on_request(self, request: Request) -> Response:
        """Ask each stop; wherever in the fleet it lives, the call looks the same."""
        stops = request.query.get("stops", "forum,pantheon").split(",")
        tickets = await asyncio.gather(*(self.book(stop) for stop in stops))
        return Response.json(tickets)

    async def book(self, stop: str) -> str:
        """Call one other agent by its class and name."""
        sight = await get_agent_by_name(Sight, stop)
        return await sight.sell(self.name)
