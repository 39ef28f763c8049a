"""A pooled session after an error gives the next user the right answer, or is gone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest

from durable.domain.errors import CommitUnknown, SqlError, Unavailable
from durable.domain.ports import SqlTarget
from durable.store import sql_steps, sql_transaction
from durable.store.agent_sql import AgentSql
from durable.store.sql_login import AgentSqlSettings
from tests.store.sql_targets import administrator, new_target, one_value, stored

Accident = Callable[[AgentSql, SqlTarget, str], Awaitable[None]]
ROUNDS = 3


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[AgentSql]:
    """One connection, so that the next user gets the one of the accident."""
    settings = AgentSqlSettings(
        database_url=database_url, connections=1, lease_seconds=4.0
    )
    async with AgentSql(settings) as agent_sql:
        yield agent_sql


async def _constraint_at_commit(sql: AgentSql, target: SqlTarget, url: str) -> None:
    with pytest.raises(SqlError, match="23503"):
        await sql.run(target, "INSERT INTO child VALUES (1)", [], one_value("k", "1"))


async def _constraint_at_a_transactions_commit(
    sql: AgentSql, target: SqlTarget, url: str
) -> None:
    transaction = await sql.begin(target)
    await transaction.run("INSERT INTO child VALUES (1)")
    await transaction.run("SELECT 'not yours' AS v")
    with pytest.raises(SqlError, match="23503"):
        await transaction.commit(one_value("k", "1"))


async def _cancelled_by_its_caller(sql: AgentSql, target: SqlTarget, url: str) -> None:
    with _row_locked(url, target):
        running = asyncio.ensure_future(
            sql.run(
                target,
                "INSERT INTO t VALUES ('x'); SELECT 'not yours' AS v",
                [],
                one_value("k", "1"),
            )
        )
        await _blocked(url)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _cancelled_by_postgres(sql: AgentSql, target: SqlTarget, url: str) -> None:
    with pytest.raises(SqlError, match="57014"):
        await sql.run(
            target,
            "SELECT 'not yours' AS v; SELECT count(*) FROM generate_series(1, 1e10)",
        )


async def _cancelled_by_an_operator(sql: AgentSql, target: SqlTarget, url: str) -> None:
    with _row_locked(url, target):
        running = asyncio.ensure_future(
            sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _blocked(url)
        with administrator(url) as connection:
            connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
        with pytest.raises(Exception, match="57014"):
            await running


async def _cut_in_a_statement(sql: AgentSql, target: SqlTarget, url: str) -> None:
    with _row_locked(url, target):
        running = asyncio.ensure_future(
            sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _blocked(url)
        with administrator(url) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises((Unavailable, CommitUnknown)):
            await running


async def _cut_between_statements(sql: AgentSql, target: SqlTarget, url: str) -> None:
    transaction = await sql.begin(target)
    await transaction.run("INSERT INTO t VALUES ('x')")
    pid = transaction._session.connection.pgconn.backend_pid
    with administrator(url) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises((Unavailable, CommitUnknown)):
        await transaction.run("SELECT v FROM t")
    await transaction.roll_back()


ACCIDENTS: tuple[Accident, ...] = (
    _constraint_at_commit,
    _constraint_at_a_transactions_commit,
    _cancelled_by_its_caller,
    _cancelled_by_postgres,
    _cancelled_by_an_operator,
    _cut_in_a_statement,
    _cut_between_statements,
)


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_the_next_user_gets_its_own_answer_and_nothing_is_left(
    sql: AgentSql, database_url: str, accident: Accident
) -> None:
    tables = (
        "CREATE TABLE t (v TEXT); CREATE TABLE parent (id INTEGER PRIMARY KEY); "
        "CREATE TABLE child (p INTEGER REFERENCES parent "
        "DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES ('{}')"
    )
    agents = []
    for name in ("one", "two"):
        target = new_target(database_url, name=name)
        result = await sql.run(target, tables.format(name))
        agents.append(dataclasses.replace(target, schema=result.schema))
    one, two = agents
    for turn in range(1 if accident is _cancelled_by_postgres else ROUNDS):
        await accident(sql, one, database_url)
        # Equal statements of another agent, then the first one's own again.
        assert await sql.run(two, "SELECT v FROM t") == [{"v": "two"}]
        assert await sql.run(two, "SELECT $1 AS n", [turn]) == [{"n": turn}]
        async with sql.transaction(two) as transaction:
            assert await transaction.run("SELECT v FROM t") == [{"v": "two"}]
        assert await sql.run(one, "SELECT v FROM t") == [{"v": "one"}]
        assert await sql.run(one, "SELECT * FROM child") == []
    assert stored(database_url, one.object_id) == {}


@contextlib.contextmanager
def _row_locked(url: str, target: SqlTarget) -> Iterator[None]:
    """Another session holds the row that the write set must write."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO durable.kv VALUES (%s, %s, 'user', 'k', '0')",
            (target.claim.shard, target.object_id),
        )
        yield
        connection.rollback()


async def _blocked(url: str) -> int:
    """The backend of agent SQL that waits for a lock, as soon as there is one."""
    with administrator(url) as connection:
        while True:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND usename ~ '^durable_agent_sql' AND datname = current_database()"
            ).fetchone()
            if row is not None:
                return int(row[0])
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("refusals", [1, 2, 3])
async def test_a_session_that_does_not_know_a_role_is_replaced(
    sql: AgentSql,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    refusals: int,
) -> None:
    target = new_target(database_url)
    result = await sql.run(target, "CREATE TABLE t (v TEXT)")
    target = dataclasses.replace(target, schema=result.schema)
    left = refusals
    real = sql_steps.opening

    def opening(session: Any, target: Any, prefix: str, **given: bool) -> Any:
        nonlocal left
        left -= 1
        return real(session, target, prefix if left < 0 else "nobody_", **given)

    monkeypatch.setattr(sql_transaction, "opening", opening)
    await sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
    left = refusals
    async with sql.transaction(target) as transaction:
        await transaction.run("INSERT INTO t VALUES ('y')")
    left = -1
    assert await sql.run(target, "SELECT v FROM t") == [{"v": "x"}, {"v": "y"}]
    left = 4
    with pytest.raises(SqlError, match="can't be made or entered"):
        await sql.run(target, "SELECT v FROM t")
    left = -1
    assert stored(database_url, target.object_id) == {"k": 1}
    assert await sql.run(target, "SELECT 1 AS a") == [{"a": 1}]
