"""The agents of the fleet's campaign: they count and keep a list, each in its own way.

All answer with the same facts, so that one checker judges them: the place of a token,
and which instance said so, and when by the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import Any

from agents import Agent, Request, Response, callable

LARGE = "x" * 1_300_000  # over what goes on the lane, so it is committed off it


class Telling(Agent[Any, Any]):
    """An instance that says who it is."""

    initial_state = {"count": 0}

    async def on_start(self, props: Any = None) -> None:
        self.instance = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def told(self, **facts: Any) -> dict[str, Any]:
        return {
            **facts,
            "instance": self.instance,
            "pid": os.getpid(),
            "at": time.monotonic(),
        }

    @callable()
    async def increment(self, token: str) -> dict[str, Any]:
        return self.told(position=await self.count(token))

    @callable()
    async def append(self, token: str) -> dict[str, Any]:
        return self.told(position=await self.add(token))

    async def count(self, token: str) -> int:
        raise NotImplementedError

    async def add(self, token: str) -> int:
        raise NotImplementedError

    async def read(self) -> dict[str, Any]:
        raise NotImplementedError

    async def on_request(self, request: Request) -> Response:
        """GET reads, all or ?peek=SECONDS what is in memory, after so long.

        POST ?do=increment|append&token=… writes, there or elsewhere.
        """
        if "peek" in request.query:
            await asyncio.sleep(float(request.query["peek"]))
            return Response.json(self.told(count=self.state["count"]))
        if request.method != "POST":
            return Response.json(self.told(**await self.read()))
        token, do = request.query["token"], request.query["do"]
        if "through" in request.query:
            # A call to another agent, which most often lives elsewhere.
            space = getattr(self.env, request.query["through"])
            other = space.get_by_name(request.query["name"])
            return Response.json(await getattr(other, do)(token))
        return Response.json(await getattr(self, do)(token))


class KeyAgent(Telling):
    """In its storage; every seventh increment brings a large value along."""

    async def count(self, token: str) -> int:
        count = int(self.state["count"]) + 1
        self.ctx.storage.put("token:" + token, count)
        if count % 7 == 0:
            self.ctx.storage.put("large", LARGE)
        self.set_state({"count": count})
        return count

    async def add(self, token: str) -> int:
        place = int(await self.ctx.storage.get("length") or 0)
        self.ctx.storage.put(f"entry:{place:09}", token)
        self.ctx.storage.put("length", place + 1)
        return place

    async def read(self) -> dict[str, Any]:
        tokens = await self.ctx.storage.list(prefix="token:")
        entries = await self.ctx.storage.list(prefix="entry:")
        return {
            "count": self.state["count"],
            "increments": {k.removeprefix("token:"): n for k, n in tokens.items()},
            "entries": list(entries.values()),
        }


class SqlAgent(Telling):
    """In tables of its own, with the state in the same transaction."""

    async def on_start(self, props: Any = None) -> None:
        await super().on_start(props)
        await self.sql("CREATE TABLE IF NOT EXISTS one (token text, n bigint)")
        await self.sql("CREATE TABLE IF NOT EXISTS two (token text, n bigint)")

    async def count(self, token: str) -> int:
        # No other event comes in between the state and the statement.
        async with self.ctx.storage.transaction():
            count = int(self.state["count"]) + 1
            self.set_state({"count": count})
            await self.sql("INSERT INTO one VALUES ($1, $2)", token, count)
        return count

    async def add(self, token: str) -> int:
        rows = await self.sql(
            "INSERT INTO two SELECT $1, count(*) FROM two RETURNING n", token
        )
        return int(rows[0]["n"])

    async def read(self) -> dict[str, Any]:
        one = await self.sql("SELECT token, n FROM one")
        two = await self.sql("SELECT token FROM two ORDER BY n")
        return {
            "count": len(one),
            "increments": {row["token"]: row["n"] for row in one},
            "entries": [row["token"] for row in two],
        }
