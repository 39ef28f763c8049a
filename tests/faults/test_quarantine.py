"""What takes three nodes down isn't woken again, until an operator releases it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.examples.serving import REPOSITORY
from tests.faults.work import process_of

APP = "tests/faults/poison_app.py"
LEASE = 2.0
NEIGHBOURS = 5
PATIENCE = 30.0


def durable(dsn: str, *arguments: str) -> str:
    """What a command of the operator's says."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=REPOSITORY,
        env={"DURABLE_DATABASE_URL": dsn, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def ask(session: aiohttp.ClientSession, path: str, *, post: bool = False) -> Any:
    """Status and text of an answer; a node that falls meanwhile says nothing."""
    async with session.request("POST" if post else "GET", path) as response:
        return response.status, await response.text()


async def plant(url: str, bomb: str) -> None:
    """Alarms for the neighbours, then for the bomb."""
    async with aiohttp.ClientSession(url) as session:
        for number in range(NEIGHBOURS):
            assert (await ask(session, f"/Neighbour/n{number}", post=True))[0] == 200
        assert (await ask(session, f"/Bomb/{bomb}", post=True))[0] == 200


async def runs(session: aiohttp.ClientSession) -> list[int]:
    answers = [await ask(session, f"/Neighbour/n{n}") for n in range(NEIGHBOURS)]
    return [int(text) for _, text in answers]


async def test_an_object_that_ends_its_process_is_asleep_after_three_owners(
    database_url: str,
) -> None:
    for round_ in range(3):
        with process_of(database_url, APP) as (process, url):
            if round_ == 0:
                await plant(url, "exits")
            assert await asyncio.to_thread(process.wait, PATIENCE) == 1
    with process_of(database_url, APP) as (process, url):
        await check_quarantine(database_url, url, "exits")
        assert process.poll() is None
    durable(database_url, "agents", "release", "Bomb/exits", "--yes")
    assert "nothing" in durable(database_url, "agents", "quarantined")
    with process_of(database_url, APP, MENDED="1") as (_, url):
        async with aiohttp.ClientSession(url) as session:
            limit = time.monotonic() + PATIENCE
            while (await ask(session, "/Bomb/exits"))[1] != "True":
                assert time.monotonic() < limit, "its alarm was lost"
                await asyncio.sleep(0.05)


async def check_quarantine(dsn: str, url: str, bomb: str) -> None:
    """It is refused and shown; its neighbours serve, and their alarms run."""
    async with aiohttp.ClientSession(url) as session:
        status, text = await ask(session, f"/Bomb/{bomb}")
        assert status == 503
        assert "took 3 nodes down" in text
        before, limit = await runs(session), time.monotonic() + PATIENCE
        while any(a <= b for a, b in zip(await runs(session), before, strict=True)):
            assert time.monotonic() < limit, "a neighbour's alarm doesn't run"
            await asyncio.sleep(0.05)
    listed = durable(dsn, "agents", "quarantined")
    assert f"Bomb   {bomb}" in listed
    assert listed.count("\n") == 2, listed


@pytest.mark.soak
async def test_an_object_that_blocks_its_process_is_asleep_after_three_owners(
    database_url: str,
) -> None:
    lease = {"DURABLE_LEASE_SECONDS": f"{LEASE:g}"}
    connection = await asyncpg.connect(database_url)
    found = "SELECT max(wakes) FROM durable.trial"
    try:
        with process_of(database_url, APP, **lease) as (_, first):
            await plant(first, "spins")
            for wakes in (1, 2):
                with process_of(database_url, APP, **lease):
                    limit = time.monotonic() + PATIENCE
                    while await connection.fetchval(found) != wakes:
                        assert time.monotonic() < limit, f"never woken {wakes} times"
                        await asyncio.sleep(0.05)
        with process_of(database_url, APP, **lease) as (_, url):
            await check_quarantine(database_url, url, "spins")
    finally:
        await connection.close()


async def test_kills_put_no_innocent_object_aside(database_url: str) -> None:
    for round_ in range(5):
        with process_of(database_url, APP) as (process, url):
            if round_ == 0:
                async with aiohttp.ClientSession(url) as session:
                    for number in range(NEIGHBOURS):
                        await ask(session, f"/Neighbour/n{number}", post=True)
            async with aiohttp.ClientSession(url) as session:
                await runs(session)
            process.kill()
    with process_of(database_url, APP) as (_, url):
        async with aiohttp.ClientSession(url) as session:
            assert len(await runs(session)) == NEIGHBOURS
    assert "nothing" in durable(database_url, "agents", "quarantined")
