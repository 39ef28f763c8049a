"""Who may come in: hooks that run before an agent is reached, and a URL prefix.

Run: durable dev examples/calling_agents/authentication.py

Then: curl -H "Authorization: Bearer open-sesame" \
           http://127.0.0.1:8787/private/agents/vault/treasure
"""

from __future__ import annotations

import hmac
from typing import Any

from agents import Agent, Request, Response, route_agent_request

# Yours comes from a secret store.
TOKEN = "open-sesame"


class Vault(Agent):
    """Only those who know the word get here."""

    async def on_request(self, request: Request) -> Response:
        """Answer somebody who has been let in."""
        return Response.json({"inside": self.name})


def is_known(word: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(word.encode(), TOKEN.encode())


def before_request(request: Request, info: Any) -> Response | None:
    """Look at the header of a plain request; None lets it through."""
    if is_known(request.headers.get("Authorization", "").removeprefix("Bearer ")):
        return None
    return Response.json({"error": "not authorized"}, status=401)


def before_connect(request: Request, info: Any) -> Response | None:
    """Look at the query: a browser can't set headers on a WebSocket."""
    if is_known(request.query.get("token", "")):
        return None
    return Response.json({"error": f"no entry to {info.name}"}, status=403)


async def fetch(request: Request, env: Any) -> Response:
    """Route under /private/agents/…; what a hook returns is the answer."""
    return await route_agent_request(
        request,
        env,
        prefix="private/agents",
        on_before_connect=before_connect,
        on_before_request=before_request,
    ) or Response.json({"msg": "no agent here"}, status=404)
