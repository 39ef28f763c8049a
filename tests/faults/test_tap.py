"""The tap knows exactly when a commit is in flight, and changes nothing on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg
import pytest

from tests.faults.tap import PostgresTap
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
