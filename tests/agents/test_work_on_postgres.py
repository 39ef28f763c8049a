"""Schedules, queue, fibers and messages on real nodes: real alarms and commits.

One test keeps to the machine's clock; the others move the kit's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import asyncpg
import pytest

from agents import Agent, get_current_agent
from durable import DurableObject, now
from durable.testing import Fleet
from durable.testing.clock import START
from server.embed import DurableRuntime
from server.settings import Settings


class Planner(Agent):
    calls: ClassVar[list[tuple[str, Any, float]]] = []
    called: ClassVar[asyncio.Event]
    hold: ClassVar[asyncio.Event]

    async def plan(self, delay: float, payload: Any = None) -> str:
        return (await self.schedule(delay, self.note, payload)).id

    async def plan_every(self, seconds: float) -> str:
        return (await self.schedule_every(seconds, self.note, "again")).id

    async def enqueue(self, *payloads: Any) -> None:
        for payload in payloads:
            await self.queue("note", payload)

    async def count(self) -> int:
        return len(await self.list_schedules())

    async def cancel(self, id: str) -> bool:
        return await self.cancel_schedule(id)

    async def begin(self) -> None:
        async def work() -> None:
            self.stash("half")
            self.say("began")
            await self.hold.wait()

        self.ctx.wait_until(self.run_fiber("work", work))

    async def note(self, payload: Any) -> None:
        assert get_current_agent().agent is self
        self.say(payload)
        if payload == "poison":
            raise ValueError("poison")

    def on_fiber_recovered(self, fiber: Any) -> None:
        self.say(("recovered", fiber.name, fiber.snapshot))

    def on_error(self, error: Exception, connection: Any = None) -> None:
        self.say(str(error))

    def say(self, payload: Any) -> None:
        self.calls.append((self.name, payload, now().timestamp()))
        self.called.set()


@pytest.fixture
def durable_app() -> list[type[DurableObject]]:
    Planner.calls.clear()
    Planner.called = asyncio.Event()
    Planner.hold = asyncio.Event()
    return [Planner, Ledger]


def payloads() -> list[Any]:
    return [payload for _, payload, _ in Planner.calls]


def moments() -> list[float]:
    return [at - START.timestamp() for _, _, at in Planner.calls]


async def fetch(database_url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(database_url)
    try:
        rows: list[Any] = await connection.fetch(query)
        return rows
    finally:
        await connection.close()


async def test_schedules_of_many_agents_run_at_their_times_and_leave_nothing(
    durable_app: list[type[DurableObject]], database_url: str
) -> None:
    settings = Settings(database_url=database_url, shards=1024)
    async with DurableRuntime(durable_app, settings) as runtime:
        planned: dict[str, float] = {}
        for number in range(40):
            name = f"agent-{number}"
            planned[name] = time.time() + 0.2
            await runtime.env.Planner.get_by_name(name).plan(0.2, number)
        async with asyncio.timeout(15):
            while len(Planner.calls) < 40:
                Planner.called.clear()
                await Planner.called.wait()
        assert sorted(payloads()) == [*range(40)]
        assert all(at >= planned[name] for name, _, at in Planner.calls)
        for name in planned:
            assert await runtime.env.Planner.get_by_name(name).count() == 0
    assert await fetch(database_url, "SELECT 1 FROM durable.alarm") == []
    assert await fetch(database_url, "SELECT 1 FROM durable.schedules") == []


async def test_a_schedule_survives_the_node_and_a_cancelled_one_does_not_run(
    fleet: Fleet, database_url: str
) -> None:
    stub = fleet.env.Planner.get_by_name("sleeper")
    await stub.plan(60, "kept")
    assert await stub.cancel(await stub.plan(60, "cancelled"))
    (row,) = await fetch(database_url, "SELECT * FROM durable.schedules")
    assert (row["class"], row["name"], row["callback"]) == (
        "Planner",
        "sleeper",
        "note",
    )
    assert (row["type"], row["payload"]) == ("delayed", '"kept"')
    await fleet.nodes[0].stop()
    await fleet.start_node()
    await fleet.clock.advance(minutes=1)
    assert payloads() == ["kept"]


async def test_an_interval_goes_on_and_on(fleet: Fleet) -> None:
    await fleet.env.Planner.get_by_name("clock").plan_every(20)
    await fleet.clock.advance(minutes=1)
    assert moments() == [20, 40, 60]


async def test_the_queue_runs_in_order_and_poison_ends_in_the_dead_letters(
    fleet: Fleet, database_url: str
) -> None:
    await fleet.env.Planner.get_by_name("q").enqueue(1, "poison", 2)
    await fleet.clock.advance(seconds=1)
    assert payloads() == [1, "poison", "poison", "poison", "poison", 2]
    (row,) = await fetch(database_url, "SELECT * FROM durable.dead_letters")
    assert (row["kind"], row["payload"]) == ("queue", '"poison"')
    assert row["error"] == "ValueError: poison"
    assert await fetch(database_url, "SELECT 1 FROM durable.queue") == []


async def test_a_fiber_that_a_stopped_node_cut_off_is_recovered_by_the_next(
    fleet: Fleet,
) -> None:
    await fleet.env.Planner.get_by_name("f").begin()
    assert payloads() == ["began"]
    await fleet.nodes[0].stop()
    await fleet.start_node()
    await fleet.clock.advance(seconds=30)
    assert payloads() == ["began", ("recovered", "work", "half")]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            """SELECT key FROM durable.kv WHERE shard = 1 AND space = 'schedules-due'
            AND object = '00000000-0000-0000-0000-000000000001' AND key >= ''
            AND key < '000001' ORDER BY key LIMIT 64""",
            "kv_pkey",
        ),
        ("SELECT id FROM durable.schedules", "kv_of_work"),
        ("SELECT id FROM durable.queue", "kv_of_work"),
        ("SELECT id FROM durable.dead_letters", "kv_of_work"),
    ],
    ids=["due", "schedules", "queue", "dead-letters"],
)
async def test_nothing_is_found_by_reading_all_keys(
    database_url: str, query: str, index: str
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        # The tables are empty: a planner that is free to would just read them.
        await connection.execute("SET enable_seqscan = off; SET enable_sort = off")
        lines = await connection.fetch(f"EXPLAIN {query}")
    finally:
        await connection.close()
    plan = "\n".join(line[0] for line in lines)
    assert index in plan
    assert "Seq Scan on kv" not in plan
    assert "Sort" not in plan


class Ledger(Agent):
    """Sends itself away, and writes down what comes and when."""

    async def send_in(self, seconds: float, to: str) -> None:
        await self.schedule(seconds, "send_all", to)

    async def send_all(self, to: str) -> None:
        other = self.env.Ledger.get_by_name(to)
        for number in range(20):
            await self.send(other, "enter", self.name, number)

    async def enter(self, sender: str, number: int) -> None:
        moment = (now() - START).total_seconds()
        entries = await self.ctx.storage.get(sender) or []
        self.ctx.storage.put(sender, [*entries, [number, moment]])
        if number % 7 == 0 and sender == "s1":
            await self.sql("CREATE TABLE IF NOT EXISTS entries (number INT)")
            await self.sql("INSERT INTO entries VALUES ($1)", number)

    async def entries(self, sender: str) -> list[Any]:
        found: list[Any] = await self.ctx.storage.get(sender) or []
        return found

    async def rows(self) -> list[int]:
        return [row["number"] for row in await self.sql("SELECT number FROM entries")]


async def test_messages_of_two_senders_are_applied_once_each_with_their_sql(
    make_fleet: Callable[..., Awaitable[Fleet]], database_url: str
) -> None:
    fleet = await make_fleet(nodes=2)
    for number, sender in enumerate(["s1", "s2", "s3"]):
        await fleet.env.Ledger.get_by_name(sender).send_in(60 * (number + 1), "r")
    await fleet.clock.advance(seconds=150)
    # The rest is sent, and what was received is read, by the node that is left.
    await fleet.nodes[0].crash()
    await fleet.clock.advance(seconds=150)
    receiver = fleet.env.Ledger.get_by_name("r")
    for number, sender in enumerate(["s1", "s2", "s3"]):
        moment = 60 * (number + 1)
        assert await receiver.entries(sender) == [[n, moment] for n in range(20)]
    assert await receiver.rows() == [0, 7, 14]
    left = "SELECT 1 FROM durable.kv WHERE space = 'work-outbox'"
    assert await fetch(database_url, left) == []
