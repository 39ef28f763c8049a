"""Agents inside a Starlette application: routed by URL, and called by name.

Run: uvicorn --app-dir examples/calling_agents starlette_app:app --port 8787

Then: curl -X POST http://127.0.0.1:8787/votes/tea
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agents import Agent, callable, get_agent_by_name
from server.embed import DurableRuntime


class Votes(TypedDict):
    """What was counted so far."""

    votes: int


class Ballot(Agent[Any, Votes]):
    """One instance for each thing to vote on."""

    initial_state = Votes(votes=0)

    @callable()
    async def vote(self) -> int:
        """Count one vote."""
        self.set_state({"votes": self.state["votes"] + 1})
        return self.state["votes"]


@asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[None]:
    """Start the agents with the application, and stop them with it."""
    async with DurableRuntime([Ballot]) as runtime:
        site.state.runtime = runtime
        yield


async def vote(request: Request) -> JSONResponse:
    """Call an agent by name from an ordinary handler."""
    env = request.app.state.runtime.env
    ballot = await get_agent_by_name(Ballot, request.path_params["name"], env=env)
    return JSONResponse({"votes": await ballot.vote()})


site = Starlette(
    lifespan=lifespan, routes=[Route("/votes/{name}", vote, methods=["POST"])]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask the agents first; what isn't theirs goes to the site."""
    if scope["type"] == "lifespan" or not await site.state.runtime.asgi(
        scope, receive, send
    ):
        await site(scope, receive, send)
