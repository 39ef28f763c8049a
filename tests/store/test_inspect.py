"""Lists of agents in pages; SQL that can't write whatever gets past the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from durable.domain.errors import SqlError
from durable.domain.ids import id_from_name, shard_of, unique_id
from durable.domain.ports import SqlTarget
from durable.domain.writes import ObjectRow
from durable.store import classes, inspect
from durable.store.agent_sql import AgentSql
from durable.store.classes import StoredClass
from durable.store.database import Database
from durable.store.inspect import AgentFilter, AgentRow
from durable.store.operator_claim import ShardTaken, claimed_shard
from durable.store.sql_guard import Guarded, GuardedStatement, SqlGuard
from durable.store.sql_login import AgentSqlSettings
from tests.store.test_classes import ADD_OBJECTS, stored_class

NAMES = ["a", "a/b", "ab", "B", "é", "日本", "\U0001f600", "%", "_", "z" * 1024]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def named_class(connection: Any, name: str, *, nameless: int = 0) -> StoredClass:
    """A class with an agent of each of NAMES, and some that have only ids."""
    found = await stored_class(connection, name)
    ids = [id_from_name(found.tag, each) for each in NAMES]
    ids += [unique_id(found.tag) for _ in range(nameless)]
    await connection.execute(
        ADD_OBJECTS,
        [shard_of(each.value, 1024) for each in ids],
        [each.value for each in ids],
        [found.tag] * len(ids),
        [each.name for each in ids],
    )
    return found


async def test_pages_of_any_size_hold_every_agent_once_and_in_order(
    connection: Any,
) -> None:
    wanted = AgentFilter(
        classes=[
            await named_class(connection, "First", nameless=5),
            await stored_class(connection, "Empty"),
            await named_class(connection, "Second"),
        ]
    )
    in_order = sorted(NAMES, key=str.encode)
    expected = [*("First" for _ in range(15)), *("Second" for _ in range(10))]
    for limit in (1, 2, 7, 10, 24, 25, 26):
        found: list[AgentRow] = []
        place = None
        while True:
            page, place = await inspect.agents(connection, wanted, limit, place)
            assert len(page) <= limit
            found += page
            if place is None:
                break
        assert [row.class_name for row in found] == expected
        assert [row.name for row in found] == [None] * 5 + in_order * 2
        assert len({row.id for row in found}) == 25


@pytest.mark.parametrize("prefix", ["a", "a/", "B", "é", "\U0001f600", "%", "zz", "q"])
async def test_a_prefix_finds_what_begins_so_and_nothing_else(
    connection: Any, prefix: str
) -> None:
    wanted = AgentFilter(
        classes=[await named_class(connection, "C", nameless=2)], prefix=prefix
    )
    page, _ = await inspect.agents(connection, wanted, 100)
    assert {row.name for row in page} == {n for n in NAMES if n.startswith(prefix)}


async def test_a_page_of_many_agents_is_read_by_the_index(connection: Any) -> None:
    found = await stored_class(connection, "Many", 3000)
    await connection.execute("ANALYZE durable.object")
    plan = await connection.fetch(
        f"EXPLAIN {inspect._PAGE}".replace("$1", str(found.tag))
        .replace("$2", "'Many-5'")
        .replace("$3", "'00000000-0000-0000-0000-000000000000'")
        .replace("$4", "'Many-5'")
        .replace("$5", "'Many-6'")
        .replace("$6", "NULL")
        .replace("$7", "10")
    )
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan using object_of_class" in text
    assert "Sort" not in text


async def _with_notes(connection: Any, database_url: str) -> AgentRow:
    """An agent whose table notes has one row."""
    found = await stored_class(connection, "Counter")
    object_id = id_from_name(found.tag, "a").value
    shard = shard_of(object_id, 1024)
    async with (
        Database(database_url, limit=5, size=2, name="test") as database,
        claimed_shard(database_url, database, shard, lease=5, freshness=0.05) as claim,
        AgentSql(AgentSqlSettings(database_url=database_url)) as sql,
    ):
        target = SqlTarget(claim, object_id, ObjectRow(found.tag, "a"), None)
        await sql.run(
            target, "CREATE TABLE notes (a INT); INSERT INTO notes VALUES (1)"
        )
    row = await inspect.agent(connection, found.tag, shard, object_id)
    assert row is not None
    return row


HOSTILE = [
    "INSERT INTO notes VALUES (2)",
    "DROP TABLE notes",
    "SELECT * FROM durable.kv",
    "SELECT count(*) FROM durable.namespace",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SET TRANSACTION READ WRITE",
    "CREATE TEMP TABLE t (a INT); INSERT INTO notes VALUES (2)",
]


@pytest.mark.parametrize("statement", HOSTILE)
async def test_without_the_guard_role_and_transaction_still_stop_it(
    connection: Any,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
) -> None:
    row = await _with_notes(connection, database_url)

    def let_through(_: SqlGuard, query: str) -> Guarded:
        parts = tuple(GuardedStatement(part, 0, ()) for part in query.split(";"))
        return Guarded(query, parts, 0, True)

    monkeypatch.setattr(SqlGuard, "check", let_through)
    settings = AgentSqlSettings(database_url=database_url)
    with pytest.raises(SqlError, match=r"permission denied|read-only|read-write mode"):
        await inspect.read_sql(settings, row, statement, 10)
    monkeypatch.undo()
    read = await inspect.read_sql(settings, row, "SELECT a FROM notes", 10)
    assert (read.columns, read.rows, read.more) == (("a",), [(1,)], False)


async def test_a_shard_that_is_locked_is_not_taken_and_its_owner_is_named(
    connection: Any, database_url: str
) -> None:
    owner = uuid4()
    await connection.execute("SELECT pg_advisory_lock(17489, 5)")
    worker = classes.Announcement(owner, "10.0.0.1:80", "0")
    await classes.announce(connection, worker, [])
    await connection.execute("SELECT durable.claim(ARRAY[5], $1)", owner)
    async with Database(database_url, limit=5, size=2, name="test") as database:
        with pytest.raises(ShardTaken, match=r"live worker 10\.0\.0\.1:80"):
            async with claimed_shard(
                database_url, database, 5, lease=5, freshness=0.05
            ):
                raise AssertionError("two owners")
        lock = "SELECT pg_try_advisory_lock(17489, 5)"
        epoch = "SELECT epoch FROM durable.shard WHERE id = 5"
        assert await connection.fetchval(epoch) == 1

        # The owner dies without releasing: the next one waits W, under a new epoch.
        await connection.execute("SELECT pg_advisory_unlock(17489, 5)")
        async with claimed_shard(
            database_url, database, 5, lease=5, freshness=0.05
        ) as claim:
            assert claim.epoch == 2
            assert not await connection.fetchval(lock)
        assert await connection.fetchval(lock)
        released = "SELECT owner FROM durable.shard WHERE id = 5"
        assert await connection.fetchval(released) is None
