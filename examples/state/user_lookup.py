"""Reading rows: plain mappings, or objects of a type of yours.

Run: durable dev examples/state/user_lookup.py

Then: curl "http://127.0.0.1:8787/agents/accounts/shop?user_id=u1"
"""

from __future__ import annotations

import msgspec

from agents import Agent, Request, Response


class User(msgspec.Struct):
    """What a row must look like."""

    id: str
    name: str
    email: str


class Accounts(Agent):
    """The accounts of one shop."""

    async def on_start(self, props: object = None) -> None:
        """Begin with one user, so that there is something to read."""
        await self.sql(
            "CREATE TABLE IF NOT EXISTS users "
            "(id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL)"
        )
        await self.sql(
            "INSERT INTO users VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            "u1",
            "Ada",
            "ada@example.org",
        )

    async def on_request(self, request: Request) -> Response:
        """Answer rows as they are: they are ready for JSON."""
        user_id = request.query.get("user_id", "")
        rows = await self.sql("SELECT * FROM users WHERE id = $1", user_id)
        if request.query.get("only") == "address":
            users = msgspec.convert(rows, list[User])  # raises if a row doesn't fit
            return Response.json([user.email for user in users])
        return Response.json(rows)
