"""The agent that the fault tests drive: it counts and it keeps a list.

An increment writes the count (state) and its token (storage) in one write set, so that
each increment can be found again, and a torn commit would show. An append reads
storage before it writes: two keys, once more one write set.
"""

from __future__ import annotations

from typing import Any

from agents import Agent, Request, Response, callable

TOKEN = "token:"
ENTRY = "entry:"


class FaultAgent(Agent):
    """Increments by token and appends by token, over RPC and over HTTP."""

    initial_state = {"count": 0}

    @callable()
    def increment(self, token: str) -> int:
        """Count one more; the count that this token brought about."""
        count = int(self.state["count"]) + 1
        self.ctx.storage.put(TOKEN + token, count)
        self.set_state({"count": count})
        return count

    @callable()
    async def append(self, token: str) -> int:
        """Add to the list; the place of the token."""
        place = int(await self.ctx.storage.get("length") or 0)
        self.ctx.storage.put(f"{ENTRY}{place:09}", token)
        self.ctx.storage.put("length", place + 1)
        return place

    @callable()
    async def read(self) -> dict[str, Any]:
        """Everything that this agent holds."""
        tokens = await self.ctx.storage.list(prefix=TOKEN)
        entries = await self.ctx.storage.list(prefix=ENTRY)
        return {
            "count": self.state["count"],
            "increments": {key.removeprefix(TOKEN): n for key, n in tokens.items()},
            "entries": list(entries.values()),
        }

    async def on_request(self, request: Request) -> Response:
        """GET reads; POST ?do=increment|append&token=… writes."""
        if request.method != "POST":
            return Response.json(await self.read())
        token = request.query["token"]
        if request.query["do"] == "append":
            return Response.json({"position": await self.append(token)})
        return Response.json({"position": self.increment(token)})
