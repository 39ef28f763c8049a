"""Naming: one agent for each user.

Run: durable dev examples/calling_agents/per_user.py

Then: curl "http://127.0.0.1:8787/?user_id=ada"
"""

from __future__ import annotations

import logging
from typing import Any, TypedDict

from agents import Agent, Request, Response, get_agent_by_name

logger = logging.getLogger(__name__)


class Visits(TypedDict):
    """How often this user came."""

    visits: int


class Notebook(Agent[Any, Visits]):
    """Belongs to one user: its name is the user's id."""

    initial_state = Visits(visits=0)

    async def on_start(self, props: object = None) -> None:
        """Use the name anywhere in the agent."""
        logger.info("Notebook of %s is open", self.name)

    async def on_request(self, request: Request) -> Response:
        """Count the visits of this user alone."""
        self.set_state({"visits": self.state["visits"] + 1})
        return Response.json({"user": self.name, **self.state})


async def fetch(request: Request, env: Any) -> Response:
    """Check who it is here, before an agent is made for somebody unknown."""
    user_id = request.query.get("user_id") or "anonymous"
    notebook = await get_agent_by_name(Notebook, user_id)
    return await notebook.fetch(request)
