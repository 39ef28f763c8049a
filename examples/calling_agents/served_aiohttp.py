"""An aiohttp application that `durable` serves: agents first, the rest is yours.

Run: durable dev examples/calling_agents/served_aiohttp.py:app

Then: curl -X POST http://127.0.0.1:8787/polls/tea
"""

from __future__ import annotations

from typing import Any, TypedDict

from aiohttp import web

from agents import Agent, callable, get_agent_by_name
from server.embed import ENV


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


async def vote(request: web.Request) -> web.Response:
    """Call an agent by name from an ordinary handler."""
    env = request.config_dict[ENV]
    poll = await get_agent_by_name(Poll, request.match_info["name"], env=env)
    return web.json_response({"votes": await poll.vote()})


app = web.Application()
app.router.add_post("/polls/{name}", vote)
