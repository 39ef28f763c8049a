"""Agents inside an aiohttp application: routed by URL, and called by name.

Run: python examples/calling_agents/aiohttp_app.py [PORT]

Then: curl -H "Authorization: Bearer letmein" http://127.0.0.1:8787/code-review/team-1
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from aiohttp import web
from aiohttp.typedefs import Handler

from agents import Agent, callable, get_agent_by_name
from server.embed import DurableRuntime

RUNTIME = web.AppKey("runtime", DurableRuntime)


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


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Your middleware runs first, so no agent is made for somebody unknown."""
    guarded = request.path.startswith("/code-review/")
    if guarded and request.headers.get("Authorization") != "Bearer letmein":
        return web.json_response({"msg": "unauthorized"}, status=401)
    return await handler(request)


async def review(request: web.Request) -> web.Response:
    """Call the team's agent; POST adds a comment."""
    env = request.app[RUNTIME].env
    agent = await get_agent_by_name(CodeReview, request.match_info["team"], env=env)
    if request.method == "POST":
        return web.json_response({"count": await agent.comment(await request.text())})
    return web.json_response(await agent.comments())


async def route(request: web.Request) -> web.StreamResponse:
    """Give agent URLs, HTTP and WebSocket, to the agents."""
    answer = await request.app[RUNTIME].route_agent_request(request)
    return answer or web.json_response({"msg": "no agent here"}, status=404)


async def agents_run(app: web.Application) -> AsyncIterator[None]:
    """Start the agents with the application, and stop them with it."""
    async with DurableRuntime([CodeReview]) as runtime:
        app[RUNTIME] = runtime
        yield


def make_app() -> web.Application:
    """Put it together."""
    app = web.Application(middlewares=[authenticate])
    app.cleanup_ctx.append(agents_run)
    app.router.add_route("*", "/code-review/{team}", review)
    app.router.add_route("*", "/{path:.*}", route)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8787
    web.run_app(make_app(), host="127.0.0.1", port=port)
