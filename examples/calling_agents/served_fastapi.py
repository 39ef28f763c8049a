"""A FastAPI application that `durable` serves: agents first, the rest is yours.

Run: durable dev examples/calling_agents/served_fastapi.py:app

Then: curl -X POST http://127.0.0.1:8787/polls/tea
"""

from __future__ import annotations

from typing import Any, TypedDict

from fastapi import FastAPI, Request

from agents import Agent, callable, get_agent_by_name


class Votes(TypedDict):
    """What was counted so far."""

    votes: int


class Poll(Agent[Any, Votes]):
    """Bound because it is in this module; /agents/poll/NAME goes to it."""

    initial_state = Votes(votes=0)

    @callable()
    async def vote(self) -> int:
        """Count one vote."""
        self.set_state({"votes": self.state["votes"] + 1})
        return self.state["votes"]


app = FastAPI()


@app.post("/polls/{name}")
async def vote(request: Request, name: str) -> dict[str, int]:
    """Call an agent by name from an ordinary handler."""
    poll = await get_agent_by_name(Poll, name, env=request.state.env)
    return {"votes": await poll.vote()}
