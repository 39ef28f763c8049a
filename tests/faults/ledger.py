"""Agents that say all they can about each entry, and who checks what of it may be true.

An entry of a ``Ledger`` is one write set: the state, a row, a message to the ``Inbox``.
It leaves as a reply, as frames to every socket, and as that message. Whatever becomes
of Postgres meanwhile: what was acknowledged is stored, what was said is stored, a
message is applied once for each entry that is stored, and for no other.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg

from agents import Agent, Request, Response, callable
from durable import DurableError
from durable.testing import Fleet

# The row that the trigger of database.sql looks for: what the commit is to meet.
FAULT = "fault"


class Ledger(Agent[Any, Any]):
    """Keeps the numbers that were entered."""

    initial_state = {"entries": []}

    @callable()
    async def enter(self, number: int, fault: str = "", size: int = 0) -> int:
        """Write, send and say a number; ``fault`` is what its commit meets."""
        inbox = self.env.Inbox.get_by_name("inbox")
        async with self.ctx.storage.transaction():
            self.set_state({"entries": [*self.state["entries"], number]})
            await self.send(inbox, "hear", self.name, number)
            if fault:
                self.ctx.storage.put(FAULT, fault)
            if size:
                self.ctx.storage.put(f"bulk {number}", size * "x")
        self.broadcast(json.dumps({"type": "entered", "number": number}))
        return number

    async def enter_by_sql(self, number: int, fault: str = "") -> int:
        """The same with a row of the agent's own SQL, off the lane."""
        await self.sql("CREATE TABLE IF NOT EXISTS entry (number int8)")
        if fault:
            self.ctx.storage.put(FAULT, fault)
        self.set_state({"entries": [*self.state["entries"], number]})
        await self.send(self.env.Inbox.get_by_name("inbox"), "hear", self.name, number)
        await self.sql("INSERT INTO entry VALUES ($1)", number)
        self.broadcast(json.dumps({"type": "entered", "number": number}))
        return number

    async def sql_entries(self) -> list[int]:
        rows = await self.sql("SELECT number FROM entry ORDER BY number")
        return [row["number"] for row in rows]

    async def on_request(self, request: Request) -> Response:
        number = int(request.query["number"])
        await self.enter(number, request.query.get("fault", ""))
        return Response.json({"entered": number})


class Inbox(Agent[Any, Any]):
    """Counts what it hears."""

    async def hear(self, sender: str, number: int) -> None:
        key = f"{sender}:{number}"
        self.ctx.storage.put(key, (await self.ctx.storage.get(key) or 0) + 1)


@dataclass
class Watch:
    """One ledger as it is seen from outside."""

    name: str
    socket: aiohttp.ClientWebSocketResponse
    acknowledged: list[int] = field(default_factory=list)
    failed: dict[int, Exception | str] = field(default_factory=dict)
    # Numbers in frames: of the state, of the broadcast.
    said: set[int] = field(default_factory=set)
    _reader: asyncio.Task[None] | None = None

    def listen(self) -> None:
        self._reader = asyncio.create_task(self._listen())

    async def close(self) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    async def _listen(self) -> None:
        async for message in self.socket:
            frame = json.loads(message.data)
            if frame["type"] == "cf_agent_state":
                self.said.update(frame["state"]["entries"])
            elif frame["type"] == "entered":
                self.said.add(frame["number"])

    async def call(self, fleet: Fleet, number: int, **options: Any) -> None:
        """Enter a number by a call."""
        stub = fleet.env.Ledger.get_by_name(self.name)
        await self._note(number, stub.enter(number, **options))

    async def call_sql(self, fleet: Fleet, number: int, fault: str = "") -> None:
        """Enter a number with SQL."""
        stub = fleet.env.Ledger.get_by_name(self.name)
        await self._note(number, stub.enter_by_sql(number, fault))

    async def _note(self, number: int, answer: Any) -> None:
        try:
            assert await answer == number
        except DurableError as error:
            self.failed[number] = error
        else:
            self.acknowledged.append(number)

    async def post(self, fleet: Fleet, number: int, fault: str = "") -> None:
        """Enter a number over HTTP."""
        http = await fleet.http()
        query = {"number": str(number), "fault": fault}
        url = f"/agents/ledger/{self.name}"
        async with http.post(url, params=query) as response:
            text = await response.text()
            if response.status == 200:
                assert json.loads(text) == {"entered": number}
                self.acknowledged.append(number)
            else:
                self.failed[number] = text


async def watch(fleet: Fleet, name: str) -> Watch:
    """Open a socket to a ledger and listen to all that it says."""
    http = await fleet.http()
    watched = Watch(name, await http.ws_connect(f"/agents/ledger/{name}"))
    watched.listen()
    return watched


async def settled(fleet: Fleet) -> None:
    """Return when all messages are delivered: their retries are on the clock."""
    await fleet.clock.advance(minutes=10)


@dataclass
class Truth:
    """What Postgres has."""

    entries: dict[str, list[int]]
    heard: Counter[tuple[str, int]]


async def truth(dsn: str) -> Truth:
    connection = await asyncpg.connect(dsn)
    try:
        states = await connection.fetch(
            "SELECT o.name, k.value::text FROM durable.kv k JOIN durable.object o "
            "ON (o.shard, o.id) = (k.shard, k.object) "
            "WHERE k.value::text LIKE '{\"entries\"%'"
        )
        heard = await connection.fetch(
            "SELECT k.key, k.value::text::int FROM durable.kv k JOIN durable.object o "
            "ON (o.shard, o.id) = (k.shard, k.object) "
            "WHERE o.name = 'inbox' AND k.space = 'user'"
        )
    finally:
        await connection.close()
    counts: Counter[tuple[str, int]] = Counter()
    for key, count in heard:
        name, _, number = key.rpartition(":")
        counts[name, int(number)] += count
    return Truth({name: json.loads(value)["entries"] for name, value in states}, counts)


def check(found: Truth, watches: list[Watch]) -> None:
    """Compare what was acknowledged and said with what is stored."""
    for seen in watches:
        stored = found.entries.get(seen.name, [])
        assert len(stored) == len(set(stored)), "doubled"
        assert set(seen.acknowledged) <= set(stored), "acknowledged, and lost"
        assert seen.said <= set(stored), "said, and not written"
    expected = Counter(
        (seen.name, number)
        for seen in watches
        for number in found.entries.get(seen.name, [])
    )
    assert found.heard == expected, "messages that were lost, doubled or never sent"
