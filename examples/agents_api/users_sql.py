"""SQL in an agent: a table, an insert, a look-up and a search.

Run: durable dev examples/agents_api/users_sql.py

Each agent has a Postgres schema to itself, made when it first uses SQL.
"""

from __future__ import annotations

import time
from typing import Any, TypedDict, cast

from agents import Agent, callable


class User(TypedDict):
    """A row of the table."""

    id: str
    name: str
    email: str
    created_at: int


class UserDirectory(Agent):
    """A small directory of users."""

    async def on_start(self, props: object = None) -> None:
        """Make the table; an INTEGER column holds 64 bits here, as in SQLite."""
        await self.sql(
            """
            CREATE TABLE IF NOT EXISTS users (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                email TEXT UNIQUE,
                created_at INTEGER
            )
            """
        )

    @callable()
    async def create_user(self, id: str, name: str, email: str) -> None:
        """Values go in as $1, $2 …, never into the text of the statement."""
        await self.sql(
            "INSERT INTO users (id, name, email, created_at) VALUES ($1, $2, $3, $4)",
            id,
            name,
            email,
            int(time.time() * 1000),
        )

    @callable()
    async def get_user_by_id(self, id: str) -> User | None:
        """Return the user, or None."""
        users = await self.sql("SELECT * FROM users WHERE id = $1", id)
        return cast("User", users[0]) if users else None

    @callable()
    async def search_users(self, term: str) -> list[dict[str, Any]]:
        """Find users by a part of their name or address."""
        return await self.sql(
            """
            SELECT * FROM users
            WHERE name ILIKE $1 OR email ILIKE $1
            ORDER BY created_at DESC, id
            """,
            f"%{term}%",
        )
