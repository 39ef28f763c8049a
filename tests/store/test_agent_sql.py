"""Agent SQL on a real Postgres: isolation, atomicity with the write set, and faults."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from durable.domain.errors import (
    CommitFailed,
    CommitUnknown,
    DataRefused,
    SqlError,
    Unavailable,
)
from durable.domain.ports import SqlTarget
from durable.store.agent_sql import AgentSql
from durable.store.sql_login import AgentSqlSettings
from tests.store.normal import NORMAL
from tests.store.sql_targets import (
    administrator,
    new_target,
    one_value,
    stored,
)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[AgentSql]:
    """One connection only, so that every test would see what another user left."""
    settings = AgentSqlSettings(database_url=database_url, connections=1)
    async with AgentSql(settings) as agent_sql:
        yield agent_sql


@pytest.fixture
def target(database_url: str) -> SqlTarget:
    return new_target(database_url)


async def _opened(sql: AgentSql, target: SqlTarget, *statements: str) -> SqlTarget:
    """The target with its schema, in which these statements were run."""
    result = await sql.run(target, "; ".join(statements) or "SELECT 1")
    return dataclasses.replace(target, schema=result.schema)


async def _rows(sql: AgentSql, target: SqlTarget, query: str, *params: object) -> Any:
    return (await sql.run(target, query, params)).rows


def _schemas(database_url: str) -> list[str]:
    with administrator(database_url) as connection:
        rows = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname ~ '^agent_'"
        )
        return [row[0] for row in rows]


async def _until_blocked(database_url: str) -> int:
    """The backend of agent SQL that waits for a lock, as soon as there is one."""
    with administrator(database_url) as connection:
        while True:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND usename ~ '^durable_agent_sql' AND datname = current_database()"
            ).fetchone()
            if row is not None:
                return int(row[0])
            await asyncio.sleep(0.01)


async def test_the_schema_is_made_by_the_first_statement_and_noted(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    assert _schemas(database_url) == []
    result = await sql.run(target, "SELECT 1 AS one")
    assert result.rows == [{"one": 1}]
    assert result.schema == f"agent_{target.object_id.hex}"
    assert _schemas(database_url) == [result.schema]
    with administrator(database_url) as connection:
        row = connection.execute(
            "SELECT sql_schema, name FROM durable.object WHERE id = %s",
            (target.object_id,),
        ).fetchone()
    assert row == (result.schema, "room")


async def test_a_first_statement_that_fails_leaves_no_schema(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    with pytest.raises(SqlError, match="does not exist"):
        await sql.run(target, "SELECT * FROM nowhere")
    assert _schemas(database_url) == []


async def test_write_set_and_statement_commit_together_or_not_at_all(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT PRIMARY KEY)")
    writes = one_value("k", '{"n": 1}')
    await sql.run(target, "INSERT INTO t VALUES ($1)", ["x"], writes)
    assert stored(database_url, target.object_id) == {"k": {"n": 1}}
    with pytest.raises(SqlError, match="23505"):
        await sql.run(
            target, "INSERT INTO t VALUES ('x')", [], one_value("k", '{"n": 2}')
        )
    assert stored(database_url, target.object_id) == {"k": {"n": 1}}
    with pytest.raises(DataRefused):
        await sql.run(target, "INSERT INTO t VALUES ('y')", [], one_value("k", "{oops"))
    assert await _rows(sql, target, "SELECT a FROM t") == [{"a": "x"}]


async def test_a_former_owner_neither_reads_nor_writes(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
    for claim in (
        dataclasses.replace(target.claim, epoch=6),
        dataclasses.replace(target.claim, claim_id=UUID(int=1)),
    ):
        stale = dataclasses.replace(target, claim=claim)
        for statement in ("SELECT * FROM t", "INSERT INTO t VALUES ('x')"):
            with pytest.raises(CommitFailed, match="no longer owned"):
                await sql.run(stale, statement, [], one_value("k", "1"))
        with pytest.raises(CommitFailed):
            await sql.drop_schema(stale)
    assert await _rows(sql, target, "SELECT * FROM t") == []
    assert stored(database_url, target.object_id) == {}


async def test_a_claim_waits_for_an_open_transaction_and_shuts_the_next_out(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
    claim = "SELECT count(*) FROM durable.claim(ARRAY[5], gen_random_uuid())"
    with administrator(database_url) as successor:
        async with sql.transaction(target) as transaction:
            await transaction.run("INSERT INTO t VALUES ('x')")
            assert successor.execute(claim).fetchone() == (0,)
        assert successor.execute(claim).fetchone() == (1,)
    with pytest.raises(CommitFailed):
        await sql.run(target, "SELECT * FROM t")


async def test_two_agents_with_equal_statements_never_see_each_others_tables(
    sql: AgentSql, database_url: str
) -> None:
    one = await _opened(sql, new_target(database_url), "CREATE TABLE t (v INTEGER)")
    two = await _opened(sql, new_target(database_url), "CREATE TABLE t (v TEXT)")
    for _ in range(8):  # more often than drivers wait before they prepare
        await sql.run(one, "INSERT INTO t VALUES ($1)", [1])
        await sql.run(two, "INSERT INTO t VALUES ($1)", ["one"])
    assert await _rows(sql, one, "SELECT DISTINCT v FROM t") == [{"v": 1}]
    assert await _rows(sql, two, "SELECT DISTINCT v FROM t") == [{"v": "one"}]
    for step in range(6):
        await sql.run(one, f"ALTER TABLE t ADD COLUMN c{step} TEXT")
        row = (await _rows(sql, one, "SELECT * FROM t LIMIT 1"))[0]
        assert len(row) == step + 2


async def test_normal_sql_gives_what_it_should(
    sql: AgentSql, target: SqlTarget
) -> None:
    for statement, rows, written in NORMAL:
        result = await sql.run(target, statement)
        assert (statement, result.raw(), result.rows_written) == (
            *(statement, rows, written),
        )
        target = dataclasses.replace(target, schema=result.schema)


async def test_parameters_of_every_kind_come_back(
    sql: AgentSql, target: SqlTarget
) -> None:
    now = datetime(2024, 5, 6, 7, 8, 9, 120000, tzinfo=UTC)
    target = await _opened(
        sql,
        target,
        "CREATE TABLE v (s TEXT, i INTEGER, f FLOAT8, b BOOLEAN, y BYTEA, d DATE, "
        "t TIMESTAMPTZ, n TIMESTAMP, p INTERVAL, u UUID, c NUMERIC, j JSONB, "
        "a TEXT[], z TEXT)",
    )
    result = await sql.run(
        target,
        "INSERT INTO v VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14) "
        "RETURNING *",
        ["é", 2**53, 0.1, True, b"\0\xff", date(2024, 5, 6), now,
         now.replace(tzinfo=None), timedelta(days=1, seconds=2), UUID(int=7),
         Decimal("12.50"), {"k": [1, None, "x"]}, ["a,b", 'c"\\', None], None],
    )  # fmt: skip
    assert result.rows == [
        {
            "s": "é", "i": 2**53, "f": 0.1, "b": True, "y": b"\0\xff",
            "d": "2024-05-06", "t": "2024-05-06T07:08:09.12+00:00",
            "n": "2024-05-06T07:08:09.12", "p": "P1DT2S", "u": str(UUID(int=7)),
            "c": 12.5, "j": {"k": [1, None, "x"]}, "a": ["a,b", 'c"\\', None],
            "z": None,
        }
    ]  # fmt: skip
    assert datetime.fromisoformat(result.rows[0]["t"]) == now
    assert (result.rows_written, result.column_names[:2]) == (1, ("s", "i"))


_VALUES: tuple[tuple[str, list[object], object], ...] = (
    ("SELECT $1", [5], 5),
    ("SELECT $1", ["5"], "5"),
    ("SELECT $1", [None], None),
    ("SELECT $1 + $2", [2, 3], 5),
    ("SELECT $1 IS NULL", [None], True),
    ("SELECT jsonb_build_object('k', $1)", ["v"], {"k": "v"}),
    ("SELECT name FROM t WHERE name = $1", [5], "5"),
    ("SELECT name FROM t WHERE n = $1", ["7"], "5"),
    ("SELECT name FROM t WHERE n = ANY ($1)", [[7, 8]], "5"),
    ("SELECT name FROM t WHERE name = ANY ($1)", [["5"]], "5"),
    ("SELECT count(*) FROM t WHERE flag = $1", [1], 1),
    ("UPDATE t SET n = $1 RETURNING n", [True], 1),
    ("UPDATE t SET tags = $1 RETURNING tags", [["a"]], ["a"]),
    ("SELECT '[1, 2]'::jsonb -> $1", [1], 2),
    ("SELECT substr('abcdef', $1, $2)", [2, 3], "bcd"),
    ("SELECT round($1, 1)", [1.25], 1.3),
    ("SELECT $1::text::jsonb -> 'a'", ['{"a": 1}'], 1),
    ("SELECT sum(n) FROM t", [], 7),
    ("SELECT avg(n) FROM t", [], 7.0),
    ("SELECT 12345678901234567890::numeric", [], 12345678901234567890),
    ("SELECT now() - $1 < now()", [timedelta(hours=1)], True),
    ("SELECT name FROM t LIMIT $1 OFFSET $2", [1, 0], "5"),
)


async def test_python_values_are_taken_as_a_porting_user_means_them(
    sql: AgentSql, target: SqlTarget
) -> None:
    target = await _opened(
        sql,
        target,
        "CREATE TABLE t (name TEXT, n INTEGER, flag BOOLEAN, tags TEXT[])",
    )
    fresh = "TRUNCATE t; INSERT INTO t VALUES ('5', 7, true, '{}')"
    for query, params, value in _VALUES:
        for _ in range(2):  # the second time the suitable reading is remembered
            await sql.run(target, fresh)
            [row] = await _rows(sql, target, query, *params)
            assert (query, *row.values()) == (query, value)
        async with sql.transaction(target) as transaction:
            [row] = (await transaction.run(query, params)).rows
            assert (query, *row.values()) == (query, value)


_UNSENDABLE: tuple[tuple[list[object], str], ...] = (
    (["a\0b"], r"\$1 contains a NUL"),
    (["\ud800"], r"\$1: .*surrogates"),
    ([object()], r"\$1: a object can't be"),
    ([{"k": float("nan")}], r"\$1: Out of range"),
    ([{"k": "\0"}], "NUL"),
    ([], "0 parameters were given"),
    ([1, 2], "2 parameters were given"),
)


async def test_a_parameter_that_cant_be_sent_is_named(
    sql: AgentSql, target: SqlTarget
) -> None:
    for params, complaint in _UNSENDABLE:
        with pytest.raises(SqlError, match=complaint):
            await sql.run(target, "SELECT $1", params)


async def test_an_error_has_statement_line_column_and_code(
    sql: AgentSql, target: SqlTarget
) -> None:
    query = "CREATE TABLE t (a INT, b INTEGER); SELECT 'ä',\n nme FROM t"
    with pytest.raises(SqlError, match="line 2, column 2: nme FROM t") as caught:
        await sql.run(target, query)
    assert caught.value.sqlstate == "42703"
    assert caught.value.query == query
    assert caught.value.position == query.index("nme") + 1


async def test_a_row_without_a_key_is_answered_with_how_to_number_rows(
    sql: AgentSql, target: SqlTarget
) -> None:
    with pytest.raises(SqlError, match="GENERATED BY DEFAULT AS IDENTITY"):
        await sql.run(
            target,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); "
            "INSERT INTO t (a) VALUES ('x')",
        )


async def test_a_t_string_sends_its_values_as_parameters(
    sql: AgentSql, target: SqlTarget
) -> None:
    def value(what: object, spec: str = "") -> SimpleNamespace:
        return SimpleNamespace(
            value=what, expression="x", conversion=None, format_spec=spec
        )

    template = SimpleNamespace(
        strings=("SELECT ", " AS a, ", " AS b"),
        interpolations=(value("'; DROP TABLE t; --"), value(2)),
    )
    result = await sql.run(target, template)
    assert result.rows == [{"a": "'; DROP TABLE t; --", "b": 2}]
    template.interpolations = (value(1), value(2, ".2f"))
    with pytest.raises(ValueError, match="leave the conversion or format out"):
        await sql.run(target, template)


async def test_a_transaction_commits_all_with_the_write_set(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    transaction = await sql.begin(target)
    await transaction.run("CREATE TABLE t (a INTEGER)")
    await transaction.run("INSERT INTO t VALUES ($1)", [1])
    assert stored(database_url, target.object_id) == {}
    await transaction.commit(one_value("k", "1"))
    with pytest.raises(SqlError, match="has ended"):
        await transaction.run("SELECT 1")
    assert stored(database_url, target.object_id) == {"k": 1}
    assert await _rows(sql, target, "SELECT a FROM t") == [{"a": 1}]


async def test_a_transaction_that_raises_leaves_nothing(
    sql: AgentSql, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a INTEGER)")

    async def fail() -> None:
        async with sql.transaction(target) as transaction:
            await transaction.run("INSERT INTO t VALUES (1)")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with sql.transaction(target):
        pass  # nothing was run: nothing is sent
    assert await _rows(sql, target, "SELECT a FROM t") == []


async def test_a_caught_error_undoes_its_statement_only(
    sql: AgentSql, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT PRIMARY KEY)")
    async with sql.transaction(target) as transaction:
        with pytest.raises(SqlError, match="42P01"):
            await transaction.run("SELECT * FROM nowhere")
        await transaction.run("INSERT INTO t VALUES ('x')")
        with pytest.raises(SqlError, match="23505"):
            await transaction.run("INSERT INTO t VALUES ('y'), ('x')")
        with pytest.raises(SqlError, match="not permitted"):
            await transaction.run("COMMIT")
        await transaction.run("INSERT INTO t VALUES ($1)", [5])
    rows = await _rows(sql, target, "SELECT a FROM t ORDER BY a")
    assert rows == [{"a": "5"}, {"a": "x"}]


async def test_a_constraint_that_fails_at_commit_writes_nothing(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(
        sql,
        target,
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)",
    )
    writes = one_value("k", "1")
    with pytest.raises(SqlError, match="23503"):
        await sql.run(target, "INSERT INTO b VALUES (1)", [], writes)
    transaction = await sql.begin(target)
    await transaction.run("INSERT INTO b VALUES (1)")
    with pytest.raises(SqlError, match="23503"):
        await transaction.commit(writes)
    await transaction.roll_back()  # allowed, and nothing is left to do
    assert stored(database_url, target.object_id) == {}
    assert await _rows(sql, target, "SELECT * FROM b") == []


async def test_drop_schema_takes_all_of_it_with_the_write_set(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    opened = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
    writes = one_value("k", "1")
    await sql.drop_schema(opened, writes)
    assert _schemas(database_url) == []
    assert stored(database_url, target.object_id) == {"k": 1}
    with administrator(database_url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname ~ %s",
            (target.object_id.hex,),
        ).fetchone() == (0,)
    with pytest.raises(SqlError, match="42P01"):
        await sql.run(target, "SELECT * FROM t")


class _Brief(AgentSqlSettings):
    """Cut transactions long before Postgres would."""

    @property
    def transaction_seconds(self) -> float:
        return 0.5


@contextlib.contextmanager
def _row_locked(database_url: str, target: SqlTarget) -> Any:
    """Another session holds the row that the write set must write."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO durable.kv VALUES (%s, %s, 'user', 'k', '0')",
            (target.claim.shard, target.object_id),
        )
        yield
        connection.rollback()


async def test_a_connection_lost_before_commit_has_a_definite_end(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
    with _row_locked(database_url, target):
        running = asyncio.ensure_future(
            sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        pid = await _until_blocked(database_url)
        with administrator(database_url) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(Unavailable):
            await running
    assert await _rows(sql, target, "SELECT * FROM t") == []
    assert stored(database_url, target.object_id) == {}


async def test_a_transaction_that_outlives_its_limit_is_cut_and_its_end_unknown(
    database_url: str, target: SqlTarget
) -> None:
    async with AgentSql(_Brief(database_url=database_url, connections=1)) as sql:
        target = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
        with _row_locked(database_url, target):
            with pytest.raises(CommitUnknown, match="took too long"):
                await sql.run(
                    target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1")
                )
        transaction = await sql.begin(target)
        await transaction.run("INSERT INTO t VALUES ('y')")
        await asyncio.sleep(0.6)  # the limit is what is tested
        with pytest.raises(Unavailable, match="took too long"):
            await transaction.run("INSERT INTO t VALUES ('z')")
        await transaction.roll_back()
        assert {"a": "y"} not in await _rows(sql, target, "SELECT * FROM t")


async def test_a_cancelled_statement_never_answers_the_next_user(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT)")
    with _row_locked(database_url, target):
        running = asyncio.ensure_future(
            sql.run(target, "INSERT INTO t VALUES ('x')", [], one_value("k", "1"))
        )
        await _until_blocked(database_url)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await _rows(sql, target, "SELECT 'mine' AS whose") == [{"whose": "mine"}]


async def test_a_statement_that_takes_too_long_is_cancelled_by_postgres(
    database_url: str, target: SqlTarget
) -> None:
    settings = AgentSqlSettings(
        database_url=database_url, connections=1, lease_seconds=1.0
    )
    async with AgentSql(settings) as sql:
        target = await _opened(sql, target)
        with pytest.raises(SqlError, match="57014"):
            await sql.run(
                target, "SELECT count(*) FROM generate_series(1, 10000000000)"
            )
        assert await _rows(sql, target, "SELECT 1 AS a") == [{"a": 1}]


async def test_sessions_are_told_apart_after_every_kind_of_error(
    sql: AgentSql, target: SqlTarget
) -> None:
    target = await _opened(sql, target, "CREATE TABLE t (a TEXT PRIMARY KEY)")
    for number, statement in enumerate(
        (
            "SELECT 1 / 0",
            "SELECT * FROM nowhere",
            "INSERT INTO t VALUES ('x'), ('x')",
            "SELECT 'x'::int",
            "SELECT 1; SELECT 1 / 0",
            "SELECT repeat('x', 2000000000)",
        )
    ):
        with pytest.raises(SqlError):
            await sql.run(target, statement)
        assert await _rows(sql, target, "SELECT $1 AS n", number) == [{"n": number}]


async def test_the_session_that_was_used_last_is_used_next(
    database_url: str, target: SqlTarget
) -> None:
    """Its backend's caches are warm; taking turns made reads half as long again."""
    async with AgentSql(AgentSqlSettings(database_url=database_url)) as sql:
        open_at_once = [await sql.begin(target) for _ in range(4)]
        sessions = [transaction._session.connection for transaction in open_at_once]
        assert len(set(sessions)) == 4
        for transaction in open_at_once:
            await transaction.roll_back()
        for _ in range(3):
            transaction = await sql.begin(target)
            assert transaction._session.connection is sessions[-1]
            await transaction.roll_back()


async def test_a_busy_pool_is_an_error_that_can_be_retried(
    database_url: str, target: SqlTarget
) -> None:
    settings = AgentSqlSettings(
        database_url=database_url, connections=1, wait_seconds=0.1
    )
    async with AgentSql(settings) as sql:
        transaction = await sql.begin(target)
        with pytest.raises(Unavailable, match="came free"):
            await sql.run(target, "SELECT 1")
        await transaction.roll_back()
        assert await _rows(sql, target, "SELECT 1 AS a") == [{"a": 1}]


async def test_a_copied_database_gets_roles_of_its_own(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    target = await _opened(
        sql,
        target,
        "CREATE TABLE t (id INT GENERATED BY DEFAULT AS IDENTITY, a TEXT)",
        "INSERT INTO t (a) VALUES ('x')",
        "CREATE VIEW v AS SELECT * FROM t",
    )
    await sql.__aexit__(None, None, None)
    name = database_url.rpartition("/")[2]
    with administrator(database_url.replace(name, "postgres")) as connection:
        connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}".encode())
    copy_url = database_url.replace(name, f"{name}_copy")
    async with AgentSql(AgentSqlSettings(database_url=copy_url)) as copy:
        assert copy._login.role_prefix != sql._login.role_prefix
        assert await _rows(copy, target, "SELECT a FROM v") == [{"a": "x"}]
        await copy.run(target, "INSERT INTO t (a) VALUES ('y')")
        await copy.run(target, "ALTER TABLE t ADD COLUMN b TEXT")
        await copy.drop_schema(target)
    with administrator(database_url.replace(name, "postgres")) as connection:
        connection.execute(f"DROP DATABASE {name}_copy WITH (FORCE)".encode())
    await sql.__aenter__()
    assert await _rows(sql, target, "SELECT a FROM t") == [{"a": "x"}]


async def test_a_login_of_the_operators_own_is_used_as_it_is(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    settings = AgentSqlSettings(
        database_url="postgresql://nobody@127.0.0.1:1/nowhere",
        login_url=sql._login.conninfo,
    )
    async with AgentSql(settings) as other:
        assert await _rows(other, target, "SELECT 1 AS a") == [{"a": 1}]
