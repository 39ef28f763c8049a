"""An agent behind `authorize`, which shows what reached it."""

from __future__ import annotations

from typing import Any

from agents import Agent, Request, Response, callable, get_current_agent
from agents.routing import RouteInfo


class Vault(Agent[Any, Any]):
    """Tells who it is talking to."""

    async def on_request(self, request: Request) -> Response:
        body = len(await request.bytes()) if request.method == "POST" else 0
        names = sorted({name.lower() for name in request.headers})
        return Response.json(
            {"identity": request.identity, "headers": names, "body": body}
        )

    @callable()
    def who(self) -> Any:
        connection = get_current_agent().connection
        assert connection is not None
        return connection.identity


async def authorize(request: Request, info: RouteInfo) -> Any:
    """Tokens are users' names; `closed` is closed, and `open` open to all."""
    if info.name == "open":
        return True
    if info.name == "told":
        return Response("No entry today", status=401)
    user = request.query.get("user") or request.headers.get("X-User")
    return {"user": user, "vault": info.name} if user and user != "eve" else None
