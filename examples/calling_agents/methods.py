"""Calling an agent's methods from the server, with values instead of requests.

Run: durable dev examples/calling_agents/methods.py

Then: curl "http://127.0.0.1:8787/?prompt=Hello"
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypedDict

from agents import Agent, Request, Response, get_agent_by_name


class UserHistory(TypedDict):
    """What has been asked so far."""

    history: list[str]
    last_updated: str | None


class Oracle(Agent[Any, UserHistory]):
    """Server code may call any method; clients only those marked ``@callable``."""

    initial_state = UserHistory(history=[], last_updated=None)

    async def chat(self, prompt: str) -> str:
        """Answer, and remember what was asked."""
        asked = [*self.state["history"], prompt][-20:]
        now = datetime.now(UTC).isoformat()
        self.set_state({"history": asked, "last_updated": now})
        return f"Question {len(asked)}: {prompt}"

    async def get_history(self) -> UserHistory:
        """Return the state itself."""
        return self.state


async def fetch(request: Request, env: Any) -> Response:
    """Call by the class: editors and type checkers know the methods of the stub."""
    oracle = await get_agent_by_name(Oracle, "delphi")
    answer = await oracle.chat(request.query.get("prompt", "Anybody there?"))
    past = await oracle.get_history()
    return Response.json({"answer": answer, "history": past["history"]})
