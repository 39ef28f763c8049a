"""The guard lets an agent's own SQL through and nothing else, whatever the text."""

from __future__ import annotations

import pytest

from durable.domain.errors import SqlError
from durable.store.sql_guard import SqlGuard
from tests.store.hostile import HOSTILE
from tests.store.normal import NORMAL

# What AgentSql reads from the server: here the few that the tests need.
SERVER_NAMES = ("ts_stat", "pg_sleep", "regclass", "length", "text", "name", "date")


@pytest.fixture
def guard() -> SqlGuard:
    return SqlGuard(SERVER_NAMES)


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_hostile_statement_is_refused_before_postgres_sees_it(
    guard: SqlGuard, statement: str
) -> None:
    other = "agent_" + "b" * 32
    text = statement.replace("{b}", other).replace("{b_tail}", other[1:])
    with pytest.raises(SqlError) as refusal:
        guard.check(text)
    assert refusal.value.query == text
    assert refusal.value.sqlstate in ("42501", "42601")


@pytest.mark.parametrize("statement", [statement for statement, _, _ in NORMAL])
def test_ordinary_sql_passes(guard: SqlGuard, statement: str) -> None:
    assert guard.check(statement).statements


def test_columns_named_like_allowed_functions_and_types_are_usable(
    guard: SqlGuard,
) -> None:
    guard.check("SELECT t.name, t.date, t.text, t.length, t.count FROM t")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT " + "+".join(["1"] * 40_000),
        "SELECT 1" + "::int" * 15_000,
        "SELECT 1" + " UNION SELECT 1, 2" * 5_000,
        "SELECT 1" + "+f(1, 2)" * 5_000,
        "SELECT * FROM a" + " JOIN b ON true" * 5_000,
        "SELECT " + "f(" * 4_000 + "1" + ")" * 4_000,
        "SELECT " + "NOT " * 9_000 + "true",
    ],
    ids=["operators", "casts", "unions", "calls", "joins", "brackets", "prefixes"],
)
def test_nesting_that_would_overflow_the_parsers_stack_is_refused(
    guard: SqlGuard, statement: str
) -> None:
    with pytest.raises(SqlError, match=r"nested too deeply|at most 100000 bytes"):
        guard.check(statement)


def test_a_long_flat_statement_is_not_deep(guard: SqlGuard) -> None:
    rows = ", ".join(["(1, -2, 'abc' || 'd')"] * 4_000)
    assert not guard.check(f"INSERT INTO t VALUES {rows}").read_only


@pytest.mark.parametrize("statement", ["", "  ", ";", "-- nothing", "SELECT 1\0"])
def test_nothing_to_run_is_an_error(guard: SqlGuard, statement: str) -> None:
    with pytest.raises(SqlError):
        guard.check(statement)


def test_a_statement_of_more_than_100_kb_is_refused(guard: SqlGuard) -> None:
    with pytest.raises(SqlError, match="at most 100000 bytes"):
        guard.check(f"SELECT '{'x' * 100_000}'")


def test_an_error_tells_line_column_and_code(guard: SqlGuard) -> None:
    query = "SELECT 'ä',\n  pg_sleep(1)"
    with pytest.raises(SqlError, match="line 2, column 3: pg_sleep") as refusal:
        guard.check(query)
    assert refusal.value.position == query.index("pg_sleep") + 1
    assert refusal.value.sqlstate == "42501"


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "IDENTITY"),
        ("INSERT OR REPLACE INTO t VALUES (1)", "ON CONFLICT"),
        ("SELECT * FROM t WHERE id = ?", r"\$1"),
        ("PRAGMA foreign_keys = on", "no PRAGMAs"),
        ("SELECT datetime('now')", r"now\(\)"),
        ("SELECT last_insert_rowid()", "RETURNING"),
        ("CREATE TABLE t (a BLOB)", "bytea"),
        ("CREATE TABLE t (a DATETIME)", "timestamptz"),
        ("SELECT group_concat(a) FROM t", "string_agg"),
    ],
)
def test_sqlite_habits_are_answered_with_what_to_write(
    guard: SqlGuard, statement: str, hint: str
) -> None:
    with pytest.raises(SqlError, match=hint):
        guard.check(statement)


@pytest.mark.parametrize(
    ("statement", "sent"),
    [
        ("CREATE TABLE t (a INTEGER, b int, c INT4, d bigint)",
         "CREATE TABLE t (a bigint, b bigint, c INT4, d bigint)"),
        ("ALTER TABLE t ADD COLUMN a Integer DEFAULT 1",
         "ALTER TABLE t ADD COLUMN a bigint DEFAULT 1"),
        ("CREATE TABLE é (ü TEXT, a INT)", "CREATE TABLE é (ü TEXT, a bigint)"),
        ("SELECT CAST(x AS INTEGER) FROM t", "SELECT CAST(x AS INTEGER) FROM t"),
    ],
)  # fmt: skip
def test_a_column_of_integer_holds_64_bits_as_in_sqlite(
    guard: SqlGuard, statement: str, sent: str
) -> None:
    assert guard.check(statement).statements[0].text == sent


def test_positions_refer_to_what_the_user_wrote(guard: SqlGuard) -> None:
    query = "SELECT 1; CREATE TABLE t (a INT, b INTEGER, c oops)"
    last = guard.check("SELECT 1; CREATE TABLE t (a INT, b INTEGER, c text)")
    statement = last.statements[1]
    sent = statement.text.index("text") + 1
    assert statement.position(sent) == query.index("oops") + 1


def test_several_statements_are_told_apart(guard: SqlGuard) -> None:
    guarded = guard.check("DELETE FROM t; SELECT ';' ; SELECT $1;")
    texts = [statement.text.strip() for statement in guarded.statements]
    assert texts == ["DELETE FROM t", "SELECT ';'", "SELECT $1"]
    assert guarded.parameters == 1
    with pytest.raises(SqlError, match="only the last"):
        guard.check("DELETE FROM t WHERE a = $1; SELECT 1")


@pytest.mark.parametrize(
    ("statement", "read_only"),
    [
        ("SELECT * FROM t", True),
        ("EXPLAIN SELECT 1", True),
        ("SELECT * FROM t FOR UPDATE", False),
        ("SELECT nextval('s')", False),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", False),
        ("EXPLAIN ANALYZE DELETE FROM t", False),
        ("CREATE TABLE t (a text)", False),
    ],
)
def test_what_can_change_something_is_known(
    guard: SqlGuard, statement: str, read_only: bool
) -> None:
    assert guard.check(statement).read_only is read_only


def test_the_memory_of_checked_statements_is_bounded(guard: SqlGuard) -> None:
    for number in range(2_500):
        guard.check(f"SELECT {number}")
    assert len(guard._passed) <= 2_000
    for number in range(60):
        guard.check(f"SELECT {number}, '{'x' * 90_000}'")
    assert sum(map(len, guard._passed)) <= 4_000_000
