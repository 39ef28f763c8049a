"""A Postgres that fails in a commit: nothing acknowledged is lost, nothing else leaves.

The faults are Postgres's own: a trigger on the rows meets the commit that carries the
fault's name, and there ends the backend, sleeps past ``statement_timeout``, or fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from durable.domain.errors import CommitFailed, CommitUnknown, DataRefused
from durable.testing import Fleet
from tests.faults.ledger import Inbox, Ledger, Watch, check, settled, truth, watch

# Postgres cancels a statement of the lane after half of it.
LEASE = 2.0
NEIGHBOURS = 5
KILLS = 3
FAULTS = (Path(__file__).parent / "database.sql").read_text()


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[Fleet]:
    """One node, on a database with the trigger."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(FAULTS)
    await connection.close()
    async with Fleet(
        [Ledger, Inbox], database_url, settings={"lease_seconds": LEASE}
    ) as fleet:
        yield fleet


# What the caller is told, and nobody else is hit.
DEFINITE: dict[str, type[Exception]] = {
    "serialization": CommitFailed,
    "deadlock": CommitFailed,
    "disk full": CommitFailed,
    "constraint": DataRefused,
    "at commit": DataRefused,
}
# The lane's session is lost, or its end isn't known: its neighbours may be hit, too.
UNKNOWN = ("killed", "killed at commit", "statement timeout", "cancelled")


async def _struck(
    fleet: Fleet, database_url: str, fault: str
) -> tuple[list[Watch], list[Watch]]:
    """Have the commits of two objects meet a fault, beside others; all is checked."""
    struck = [await watch(fleet, name) for name in ("call", "post")]
    spared = [await watch(fleet, f"n{number}") for number in range(NEIGHBOURS)]
    for seen in (*struck, *spared):
        await seen.call(fleet, 1)
    await asyncio.gather(
        struck[0].call(fleet, 2, fault=fault),
        struck[1].post(fleet, 2, fault),
        *(seen.call(fleet, 2) for seen in spared),
    )
    for seen in (*struck, *spared):
        await _until_answered(seen, fleet, 3)
    await settled(fleet)
    found = await truth(database_url)
    for seen in (*struck, *spared):
        await seen.close()
    check(found, [*struck, *spared])
    for seen in struck:
        assert list(seen.failed) == [2]
        assert found.entries[seen.name] == [1, 3]
    return struck, spared


async def _until_answered(seen: Watch, fleet: Fleet, number: int) -> None:
    """Enter a number; while the lane is being replaced it may be refused."""
    async with asyncio.timeout(20):
        while True:
            await seen.call(fleet, number)
            error = seen.failed.pop(number, None)
            if error is None:
                return
            assert getattr(error, "retryable", False), error


@pytest.mark.parametrize("fault", DEFINITE)
async def test_a_commit_that_is_refused_says_nothing_and_its_neighbours_commit(
    fleet: Fleet, database_url: str, fault: str
) -> None:
    struck, spared = await _struck(fleet, database_url, fault)
    assert isinstance(struck[0].failed[2], DEFINITE[fault])
    for seen in spared:
        assert seen.acknowledged == [1, 2, 3]


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_a_backend_that_ends_in_a_commit_says_nothing_and_work_goes_on(
    fleet: Fleet, database_url: str, fault: str
) -> None:
    struck, _ = await _struck(fleet, database_url, fault)
    assert isinstance(struck[0].failed[2], CommitUnknown)


@pytest.mark.parametrize("fault", [*DEFINITE, *UNKNOWN])
async def test_with_sql_too_all_of_a_failed_commit_is_gone(
    fleet: Fleet, database_url: str, fault: str
) -> None:
    seen = await watch(fleet, "sql")
    await seen.call_sql(fleet, 1)
    await seen.call_sql(fleet, 2, fault)
    assert list(seen.failed) == [2]
    await _until_answered(seen, fleet, 3)
    await seen.call_sql(fleet, 4)
    await settled(fleet)
    found = await truth(database_url)
    await seen.close()
    check(found, [seen])
    assert found.entries["sql"] == [1, 3, 4]
    stub = fleet.env.Ledger.get_by_name("sql")
    assert await stub.sql_entries() == [1, 4]


@pytest.mark.parametrize("sessions", ["durable lane%", "durable %"])
async def test_sessions_that_are_ended_amid_commits_lose_and_double_nothing(
    fleet: Fleet, database_url: str, sessions: str
) -> None:
    """First the lane's alone, then those for reads and agents' SQL with it."""
    watches = [await watch(fleet, f"n{number}") for number in range(6)]
    going = True

    async def load(seen: Watch, by_sql: bool) -> None:
        number = 0
        while going:
            number += 1
            await (seen.call_sql if by_sql else seen.call)(fleet, number)

    loads = [
        asyncio.create_task(load(seen, index < 2)) for index, seen in enumerate(watches)
    ]
    connection = await asyncpg.connect(database_url)
    for _ in range(KILLS):
        enough = len(_acknowledged(watches)) + 60
        async with asyncio.timeout(20):
            while len(_acknowledged(watches)) < enough:
                done, _ = await asyncio.wait(loads, timeout=0.005)
                assert not done, [task.exception() for task in done]
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE $1",
            sessions,
        )
        assert ended
    going = False
    await asyncio.gather(*loads)
    await connection.close()
    for number, seen in enumerate(watches):
        await _until_answered(seen, fleet, 10_000 + number)
    await settled(fleet)
    found = await truth(database_url)
    for seen in watches:
        await seen.close()
    check(found, watches)
    assert any(seen.failed for seen in watches), "no kill hit anything"


def _acknowledged(watches: list[Watch]) -> list[int]:
    return [number for seen in watches for number in seen.acknowledged]
