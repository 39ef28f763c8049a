"""The tap knows exactly when a commit is in flight, and changes nothing on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg
import pytest

from tests.faults.fleet_races import until
from tests.faults.tap import Hold, PostgresTap
from tests.faults.tap_readers import FrontendReader, is_commit

FUNCTION = """
    CREATE SCHEMA durable;
    CREATE FUNCTION durable.commit_test(n int) RETURNS int LANGUAGE sql AS 'SELECT n'
"""
CALL = "SELECT durable.commit_test($1)"


class Tapped:
    """A tap in front of a test's database, and what it reported."""

    def __init__(self, tap: PostgresTap, dsn: str) -> None:
        self.tap = tap
        self.dsn = dsn
        self.sent: list[int] = []
        self.answered: list[int] = []
        tap.on_commit_sent = lambda: self.sent.append(tap.commits_in_flight)
        tap.on_commit_answered = lambda: self.answered.append(tap.commits_in_flight)


@pytest.fixture
async def tapped(empty_database_url: str) -> AsyncIterator[Tapped]:
    parts = urlsplit(empty_database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    direct = await asyncpg.connect(empty_database_url)
    await direct.execute(FUNCTION)
    await direct.close()
    tap = PostgresTap(parts.hostname, parts.port)
    port = await tap.start()
    login = parts.netloc.rpartition("@")[0]
    dsn = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
    yield Tapped(tap, dsn)
    await tap.stop()


async def test_a_commit_is_in_flight_between_its_request_and_its_answer(
    tapped: Tapped,
) -> None:
    connection = await asyncpg.connect(tapped.dsn)
    assert tapped.tap.commits_in_flight == 0
    for number in range(3):
        assert await connection.fetchval(CALL, number) == number
        assert tapped.tap.commits_in_flight == 0
    await connection.close()
    assert tapped.sent == [1, 1, 1]
    assert tapped.answered == [1, 1, 1]


async def test_other_statements_are_no_commits(tapped: Tapped) -> None:
    connection = await asyncpg.connect(tapped.dsn)
    assert await connection.fetchval("SELECT $1::int", 7) == 7
    assert await connection.fetchval("SELECT 7") == 7
    await connection.close()
    assert tapped.tap.commits_sent == 0


async def test_a_failed_commit_is_no_longer_in_flight(tapped: Tapped) -> None:
    connection = await asyncpg.connect(tapped.dsn)
    statement = "SELECT durable.commit_test($1) / 0"
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval(statement, 1)
    assert tapped.tap.commits_in_flight == 0
    await connection.close()
    assert tapped.sent == [1]


async def test_a_transaction_in_a_psycopg_pipeline_is_a_commit(tapped: Tapped) -> None:
    async with await psycopg.AsyncConnection.connect(tapped.dsn) as connection:
        async with connection.pipeline(), connection.transaction():
            await connection.execute("SELECT %s::int", (1,))
        assert tapped.sent
        assert tapped.tap.commits_in_flight == 0


async def test_a_large_answer_passes_unchanged(tapped: Tapped) -> None:
    connection = await asyncpg.connect(tapped.dsn)
    text = await connection.fetchval("SELECT repeat('Z', $1)", 3_000_000)
    assert text == "Z" * 3_000_000
    await connection.close()


async def test_a_lost_connection_takes_its_commits_along(tapped: Tapped) -> None:
    connection = await asyncpg.connect(tapped.dsn)
    tapped.tap.on_commit_sent = connection.terminate
    statement = "SELECT durable.commit_test($1), pg_sleep(0.2)"
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, OSError)):
        await connection.fetchval(statement, 1)
    other = await asyncpg.connect(tapped.dsn)
    await other.fetchval("SELECT 1")
    await other.close()
    assert tapped.tap.commits_in_flight == 0


# --- a bad network


def any_session(application: str) -> bool:
    return True


HOLD = Hold(any_session, is_commit)


async def backend_of(dsn: str) -> tuple[asyncpg.Connection[Any], int]:
    """A connection through the tap, and the process of Postgres that serves it."""
    connection = await asyncpg.connect(dsn)
    return connection, await connection.fetchval("SELECT pg_backend_pid()")


@pytest.fixture
async def direct(empty_database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


async def becomes(
    direct: asyncpg.Connection[Any], question: str, answer: Any, *args: Any
) -> None:
    async with asyncio.timeout(10):
        while await direct.fetchval(question, *args) != answer:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


ALIVE = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1"


async def test_a_held_call_is_done_and_not_committed_until_it_is_let_go(
    tapped: Tapped, direct: asyncpg.Connection[Any]
) -> None:
    await direct.execute(
        "CREATE TABLE kept (n int); CREATE FUNCTION durable.commit_kept() RETURNS void"
        " LANGUAGE sql AS 'INSERT INTO kept VALUES (1)'"
    )
    connection, pid = await backend_of(tapped.dsn)
    await connection.fetchval("SELECT 1")
    tapped.tap.hold = HOLD
    committing = asyncio.create_task(
        connection.execute("SELECT durable.commit_kept() WHERE $1", True)
    )
    # The statement has run: its transaction waits for the Sync.
    state = "SELECT state FROM pg_stat_activity WHERE pid = $1"
    locks = "SELECT count(*) > 0 FROM pg_locks WHERE pid = $1 AND mode = $2"
    await becomes(direct, locks, True, pid, "RowExclusiveLock")
    assert len(tapped.tap.held) == 1
    assert not committing.done()
    assert await direct.fetchval("SELECT count(*) FROM kept") == 0
    assert tapped.tap.commits_in_flight == 0
    tapped.tap.let_go()
    await committing
    assert await direct.fetchval("SELECT count(*) FROM kept") == 1
    await becomes(direct, state, "idle", pid)
    await connection.close()


async def test_what_is_held_reaches_postgres_although_its_node_is_gone(
    tapped: Tapped, direct: asyncpg.Connection[Any]
) -> None:
    await direct.execute("CREATE TABLE kept (n int)")
    async with await psycopg.AsyncConnection.connect(tapped.dsn) as connection:
        await connection.execute("SELECT 1")
        await connection.commit()
        tapped.tap.hold = HOLD

        async def write() -> None:
            async with connection.pipeline(), connection.transaction():
                await connection.execute("INSERT INTO kept VALUES (%s)", (1,))

        writing = asyncio.create_task(write())
        assert await until(lambda: bool(tapped.tap.held), 10)
        (link,) = tapped.tap.held
        link.forsake()
        with pytest.raises(psycopg.OperationalError):
            await writing
        assert await direct.fetchval("SELECT count(*) FROM kept") == 0
        tapped.tap.let_go()
        await becomes(direct, "SELECT count(*) FROM kept", 1)


async def test_a_stranded_session_ends_and_its_node_hears_nothing(
    tapped: Tapped, direct: asyncpg.Connection[Any]
) -> None:
    connection, pid = await backend_of(tapped.dsn)
    tapped.tap.strand(any_session)
    await becomes(direct, ALIVE, 0, pid)
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.2)
    connection.terminate()


async def test_an_ended_session_ends_for_both_and_others_are_refused(
    tapped: Tapped, direct: asyncpg.Connection[Any]
) -> None:
    connection, pid = await backend_of(tapped.dsn)
    tapped.tap.refuses = True
    tapped.tap.end(any_session)
    await becomes(direct, ALIVE, 0, pid)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
        await asyncpg.connect(tapped.dsn)
    tapped.tap.heal()
    healed = await asyncpg.connect(tapped.dsn)
    assert await healed.fetchval("SELECT 1") == 1
    await healed.close()


# --- what it reads


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def test_a_request_cut_anywhere_counts_once_and_only_when_complete() -> None:
    startup = message(b"", (196608).to_bytes(4, "big") + b"user\0me\0\0")
    request = (
        message(b"P", b"s1\0SELECT durable.commit_test($1)\0\0\0")
        + message(b"B", b"\0s1\0\0\0\0\0\0\0")
        + message(b"E", b"\0\0\0\0\0")
        + message(b"S", b"")
    )
    for cut in range(1, len(request)):
        reader = FrontendReader()
        reader.feed(startup)
        assert not reader.feed(request[:cut])
        assert sum(reader.requests) == 0
        assert reader.feed(request[cut:])
        assert list(reader.requests) == [False, True]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT durable.commit_on_lane($1)", True),
        (" COMMIT ", True),
        ("BEGIN", False),
        ("SELECT durable.claim($1, $2)", False),
    ],
)
def test_commits_are_told_by_their_text(statement: str, expected: bool) -> None:
    assert is_commit(statement) is expected
