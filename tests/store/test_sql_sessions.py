"""A pooled session after an error gives the next user the right answer, or is gone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from durable.domain.errors import CommitUnknown, SqlError, Unavailable
from durable.domain.ports import SqlTarget
from durable.store import sql_steps, sql_transaction
from durable.store.agent_sql import AgentSql
from durable.store.sql_login import AgentSqlSettings
from durable.store.sql_session import Answer, Step
from tests.faults.tap import PostgresTap
from tests.store.lanes import until
from tests.store.sql_targets import administrator, new_target, one_value, stored

ROUNDS = 3


@dataclass(frozen=True)
class Place:
    """A pool, Postgres past it, and the tap between them."""

    sql: AgentSql
    url: str
    tap: PostgresTap


Accident = Callable[[Place, SqlTarget], Awaitable[None]]


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    """One connection, so that the next user gets the one of the accident."""
    url = make_url(database_url)
    tap = PostgresTap(url.host or "", url.port or 0)
    tapped = url.set(host="127.0.0.1", port=await tap.start())
    settings = AgentSqlSettings(
        database_url=tapped.render_as_string(hide_password=False),
        connections=1,
        lease_seconds=4.0,
    )
    async with AgentSql(settings) as sql:
        yield Place(sql, database_url, tap)
    await tap.stop()


@pytest.fixture
def sql(place: Place) -> AgentSql:
    return place.sql


async def _constraint_at_commit(place: Place, target: SqlTarget) -> None:
    with pytest.raises(SqlError, match="23503"):
        await place.sql.run(
            target, "INSERT INTO child VALUES (1)", [], one_value("k", "1")
        )


async def _constraint_at_a_transactions_commit(place: Place, target: SqlTarget) -> None:
    transaction = await place.sql.begin(target)
    await transaction.run("INSERT INTO child VALUES (1)")
    await transaction.run("SELECT 'not yours' AS v")
    with pytest.raises(SqlError, match="23503"):
        await transaction.commit(one_value("k", "1"))


async def _cancelled_by_its_caller(place: Place, target: SqlTarget) -> None:
    with _row_locked(place.url, target):
        running = asyncio.ensure_future(
            place.sql.run(
                target,
                "INSERT INTO t VALUES ('x'); SELECT 'not yours' AS v",
                [],
                one_value("k", "1"),
            )
        )
        await _blocked(place.url)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _cancelled_by_postgres(place: Place, target: SqlTarget) -> None:
    with pytest.raises(SqlError, match="57014"):
        await place.sql.run(
            target,
            "SELECT 'not yours' AS v; SELECT count(*) FROM generate_series(1, 1e10)",
        )


async def _cancelled_by_an_operator(place: Place, target: SqlTarget) -> None:
    with _row_locked(place.url, target):
        running = asyncio.ensure_future(
            place.sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _blocked(place.url)
        with administrator(place.url) as connection:
            connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
        with pytest.raises(Exception, match="57014"):
            await running


async def _cut_in_a_statement(place: Place, target: SqlTarget) -> None:
    with _row_locked(place.url, target):
        running = asyncio.ensure_future(
            place.sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _blocked(place.url)
        with administrator(place.url) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises((Unavailable, CommitUnknown)):
            await running


async def _cut_between_statements(place: Place, target: SqlTarget) -> None:
    transaction = await place.sql.begin(target)
    await transaction.run("INSERT INTO t VALUES ('x')")
    pid = transaction._session.connection.pgconn.backend_pid
    with administrator(place.url) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises((Unavailable, CommitUnknown)):
        await transaction.run("SELECT v FROM t")
    await transaction.roll_back()


async def _serialization(place: Place, target: SqlTarget) -> None:
    with _failing(place.url, target, "40001", deferred=False):
        with pytest.raises(SqlError, match="40001"):
            await place.sql.run(
                target,
                "INSERT INTO t VALUES ('x'); SELECT 'not yours' AS v",
                [],
                one_value("k", "1"),
            )


async def _serialization_at_commit(place: Place, target: SqlTarget) -> None:
    with _failing(place.url, target, "40001", deferred=True):
        with pytest.raises(SqlError, match="40001"):
            await place.sql.run(
                target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1")
            )


async def _deadlock(place: Place, target: SqlTarget) -> None:
    """A real one: another session wants a row of ours, and we one of its."""
    async with place.sql.transaction(target) as transaction:
        await transaction.run("UPDATE t SET v = v")
        with psycopg.connect(place.url) as other:
            other.execute(f"INSERT INTO {target.schema}.parent VALUES (1)".encode())
            # Whoever notices first is the victim: that shall be the agent's session.
            other.execute("SET deadlock_timeout = '1min'")
            waiting = asyncio.create_task(
                asyncio.to_thread(
                    other.execute, f"UPDATE {target.schema}.t SET v = v".encode()
                )
            )
            await _blocked(place.url, "postgres")
            with pytest.raises(SqlError, match="40P01"):
                await transaction.run("INSERT INTO parent VALUES (1)")
            # Only to its savepoint: the row is free when the transaction ends.
            await transaction.roll_back()
            await waiting
            other.rollback()


async def _cut_on_the_wire(place: Place, target: SqlTarget) -> None:
    """The tap closes the connection on both sides while Postgres works."""
    with _row_locked(place.url, target):
        running = asyncio.ensure_future(
            place.sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _blocked(place.url)
        place.tap.heal()
        with pytest.raises((Unavailable, CommitUnknown)):
            await running
        await _ended(place.url, pid)


async def _cut_before_it_was_sent(place: Place, target: SqlTarget) -> None:
    transaction = await place.sql.begin(target)
    await transaction.run("INSERT INTO t VALUES ('x')")
    place.tap.is_cut = True
    running = asyncio.ensure_future(transaction.run("SELECT 'not yours' AS v"))
    await asyncio.sleep(0)
    place.tap.heal()
    with pytest.raises((Unavailable, CommitUnknown)):
        await running
    await transaction.roll_back()


ACCIDENTS: tuple[Accident, ...] = (
    _constraint_at_commit,
    _constraint_at_a_transactions_commit,
    _cancelled_by_its_caller,
    _cancelled_by_postgres,
    _cancelled_by_an_operator,
    _cut_in_a_statement,
    _cut_between_statements,
    _serialization,
    _serialization_at_commit,
    _deadlock,
    _cut_on_the_wire,
    _cut_before_it_was_sent,
)
# These take their time: a limit of Postgres's, its look at the client, a deadlock.
SLOW = (_cancelled_by_postgres, _cut_on_the_wire, _deadlock)


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_the_next_user_gets_its_own_answer_and_nothing_is_left(
    place: Place, database_url: str, accident: Accident
) -> None:
    sql = place.sql
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
    for turn in range(1 if accident in SLOW else ROUNDS):
        await accident(place, one)
        await _require_clean(sql, two)
        # Equal statements of another agent, then the first one's own again.
        assert await sql.run(two, "SELECT v FROM t") == [{"v": "two"}]
        assert await sql.run(two, "SELECT $1 AS n", [turn]) == [{"n": turn}]
        async with sql.transaction(two) as transaction:
            assert await transaction.run("SELECT v FROM t") == [{"v": "two"}]
        assert await sql.run(one, "SELECT v FROM t") == [{"v": "one"}]
        assert await sql.run(one, "SELECT * FROM child") == []
    assert stored(database_url, one.object_id) == {}


async def _require_clean(sql: AgentSql, target: SqlTarget) -> None:
    """The session is in nobody's role, and the next agent in its own alone."""
    session = await sql._take()
    answer = await session.exchange([_WHO])
    login = sql._login.role_prefix.replace("agent_", "durable_agent_sql_").rstrip("_")
    assert _texts(answer) == [login, login, "pg_catalog", "off"]
    await sql._give_back(session)
    async with sql.transaction(target) as transaction:
        assert await transaction.run("SELECT v FROM t") == [{"v": "two"}]
        answer = await transaction._session.exchange([_WHO])
        role = sql._login.role_prefix + target.object_id.hex
        assert _texts(answer) == [role, login, f"{target.schema}, pg_temp", "off"]


_WHO = Step(
    b"SELECT current_user, session_user, current_setting('search_path'), "
    b"current_setting('transaction_read_only')"
)


def _texts(answer: Answer) -> list[str]:
    [result] = answer.results
    return [(result.get_value(0, n) or b"").decode() for n in range(result.nfields)]


@contextlib.contextmanager
def _failing(
    url: str, target: SqlTarget, code: str, *, deferred: bool
) -> Iterator[None]:
    """Inserts into the agent's table fail with a code, at once or at COMMIT."""
    when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    kind = "CONSTRAINT TRIGGER" if deferred else "TRIGGER"
    table = f"{target.schema}.t"
    with administrator(url) as connection:
        connection.execute(
            "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$".encode()
        )
        connection.execute(
            f"CREATE {kind} fail AFTER INSERT ON {table} {when} FOR EACH ROW "
            "EXECUTE FUNCTION public.fail()".encode()
        )
        yield
        connection.execute("DROP FUNCTION public.fail CASCADE")


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


async def _ended(url: str, pid: int) -> None:
    """Return when the backend has noticed that its client is gone."""
    with administrator(url) as connection:

        async def gone() -> bool:
            query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            return connection.execute(query, (pid,)).fetchone() == (0,)

        await until(gone)


async def _blocked(url: str, user: str = "durable_agent_sql") -> int:
    """The backend of agent SQL that waits for a lock, as soon as there is one."""
    with administrator(url) as connection:
        while True:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND usename ^@ %s AND datname = current_database()",
                (user,),
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


async def test_an_answer_that_is_lost_is_not_the_next_users_and_its_commit_is_whole(
    place: Place, database_url: str
) -> None:
    target = new_target(database_url)
    result = await place.sql.run(target, "CREATE TABLE t (v TEXT)")
    target = dataclasses.replace(target, schema=result.schema)
    place.tap.on_commit_answered = place.tap.heal  # it closes every connection
    with pytest.raises(CommitUnknown):
        await place.sql.run(
            target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1")
        )
    place.tap.on_commit_answered = None
    assert await place.sql.run(target, "SELECT 'mine' AS v") == [{"v": "mine"}]
    assert await place.sql.run(target, "SELECT v FROM t") == [{"v": "x"}]
    assert stored(database_url, target.object_id) == {"k": 1}
