"""The views of docs/inspect.md: their columns, and what they say of a living fleet."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agents import Agent, callable
from durable import DurableObject
from durable.testing import Fleet

PAGE = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `durable\.(\w+)` \| ([^:]+): ([^|]+) \|$", re.MULTILINE)
VIEWS = {name: told for name, _, told in ROW.findall(PAGE)}
EXAMPLE = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)[0]


class Counter(Agent[Any, Any]):
    initial_state = {"count": 0}

    @callable()
    async def count_to(self, n: int) -> None:
        self.set_state({"count": n})
        await self.sql("CREATE TABLE IF NOT EXISTS t (x int)")
        await self.schedule(3600, "count_to", {"n": 1})
        self.ctx.storage.put("key", "value")


class Plain(DurableObject):
    async def keep(self) -> None:
        self.ctx.storage.put("key", "value")


@pytest.fixture
def durable_app() -> list[type[DurableObject]]:
    return [Counter, Plain]


@pytest.fixture
async def connection(fleet: Fleet, database_url: str) -> AsyncIterator[Any]:
    for n in (99, 101, 102):
        await fleet.env.Counter.get_by_name(f"to-{n}").count_to(n)
    await fleet.env.Plain.get_by_name("p").keep()
    found = await asyncpg.connect(database_url)
    yield found
    await found.close()


def columns(told: str) -> list[str]:
    """Of "a, b (JSON), c …": a, b, c."""
    return re.findall(r"\b(\w+)(?= *(?:\(|,|…|$))", re.sub(r"\(\w+\)", "", told))


@pytest.mark.parametrize("view", [v for v in VIEWS if v != "shard_owner"])
async def test_a_view_has_the_columns_that_the_page_tells(
    connection: Any, view: str
) -> None:
    row = await connection.fetchrow(f"SELECT * FROM durable.{view} LIMIT 1")
    if row is None:
        prepared = await connection.prepare(f"SELECT * FROM durable.{view}")
        there = [attribute.name for attribute in prepared.get_attributes()]
    else:
        there = list(row.keys())
    told = columns(VIEWS[view])
    assert told
    assert set(told) <= set(there), view


async def test_the_example_of_the_page_finds_the_states_it_asks_for(
    connection: Any,
) -> None:
    rows = await connection.fetch(EXAMPLE)
    assert sorted(map(tuple, rows)) == [("to-101", "101"), ("to-102", "102")]


async def test_states_objects_and_owners_are_seen_while_they_live(
    connection: Any, fleet: Fleet
) -> None:
    state = await connection.fetchrow(
        "SELECT * FROM durable.agent_state WHERE name = 'to-99'"
    )
    assert (state["class"], json.loads(state["state"])) == ("Counter", {"count": 99})
    agents = await connection.fetch(
        "SELECT class, name, kv_rows, kv_bytes, sql_schema, owner FROM durable.agents"
    )
    found = {(row["class"], row["name"]): row for row in agents}
    assert set(found) == {("Counter", f"to-{n}") for n in (99, 101, 102)} | {
        ("Plain", "p")
    }
    plain = found["Plain", "p"]
    assert (plain["kv_rows"], plain["sql_schema"]) == (1, None)
    assert plain["kv_bytes"] == len("key" + '"value"')
    assert found["Counter", "to-99"]["sql_schema"] is not None
    assert {row["owner"] for row in agents} == {state["owner"]}
    planned = await connection.fetch("SELECT name, callback FROM durable.schedules")
    assert {tuple(row) for row in planned} == {
        (f"to-{n}", "count_to") for n in (99, 101, 102)
    }
    held = "SELECT count(*), bool_and(held) FROM durable.shard_owner"
    assert tuple(await connection.fetchrow(held)) == (1024, True)
    worker = await connection.fetchrow("SELECT * FROM durable.worker_status")
    assert (worker["live"], worker["shards"], worker["held"]) == (True, 1024, 1024)
