"""Agents inside a FastAPI application: routed by URL, and called by name.

Run: uvicorn --app-dir examples/calling_agents fastapi_app:app --port 8787

Then: curl -H "Authorization: Bearer letmein" http://127.0.0.1:8787/code-review/team-1
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from agents import Agent, callable, get_agent_by_name
from server.embed import DurableRuntime


class Review(TypedDict):
    """The comments of one team."""

    comments: list[str]


class CodeReview(Agent[Any, Review]):
    """One instance for each team."""

    initial_state = Review(comments=[])

    @callable()
    async def comment(self, text: str) -> int:
        """Add a comment; browsers may call it, and so may the handlers below."""
        self.set_state({"comments": [*self.state["comments"], text]})
        return len(self.state["comments"])

    async def comments(self) -> list[str]:
        """All comments: for the server only, as it isn't marked ``@callable``."""
        return self.state["comments"]


class AgentRoutes:
    """Middleware: agent URLs, HTTP and WebSocket, go to the agents."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            runtime: DurableRuntime = scope["app"].state.runtime
            if await runtime.asgi(scope, receive, send):
                return
        await self.app(scope, receive, send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the agents with the application, and stop them with it."""
    async with DurableRuntime([CodeReview]) as runtime:
        app.state.runtime = runtime
        yield


async def authenticated(authorization: Annotated[str, Header()] = "") -> None:
    """Refuse before an agent is made for somebody unknown."""
    if authorization != "Bearer letmein":
        raise HTTPException(401, "unauthorized")


app = FastAPI(lifespan=lifespan)
app.add_middleware(AgentRoutes)


@app.get("/code-review/{team}", dependencies=[Depends(authenticated)])
async def read(request: Request, team: str) -> list[str]:
    """Call the team's agent by name."""
    env = request.app.state.runtime.env
    agent = await get_agent_by_name(CodeReview, team, env=env)
    return await agent.comments()


@app.post("/code-review/{team}", dependencies=[Depends(authenticated)])
async def write(request: Request, team: str, text: str) -> dict[str, int]:
    """Add a comment; every connected client sees the new state."""
    env = request.app.state.runtime.env
    agent = await get_agent_by_name(CodeReview, team, env=env)
    return {"count": await agent.comment(text)}
