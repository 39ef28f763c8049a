"""An agent, and the page that shows it. Run it with ``durable dev``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from agents import Agent, Request, Response, callable, route_agent_request

PAGE = Path(__file__).with_name("page.html")


class CounterState(TypedDict):
    count: int


class Counter(Agent[Any, CounterState]):
    """There is one live Counter for each name: /agents/counter/NAME.

    Its state is in Postgres, and every connected client sees it change.
    """

    initial_state = CounterState(count=0)

    @callable()
    def increment(self, by: int = 1) -> int:
        """Clients call this."""
        self.set_state(CounterState(count=self.state["count"] + by))
        return self.state["count"]

    async def on_request(self, request: Request) -> Response:
        """Plain HTTP: curl http://127.0.0.1:8787/agents/counter/lobby"""
        return Response.json(self.state)


async def fetch(request: Request, env: Any) -> Response:
    """Every request comes in here: agents first, then the page."""
    response = await route_agent_request(request, env)
    if response is not None:
        return response
    if request.path == "/":
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return Response(PAGE.read_text(encoding="utf-8"), headers=headers)
    return Response("Not found", status=404)
