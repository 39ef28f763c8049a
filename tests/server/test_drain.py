"""SIGTERM lets what runs end, then everything stops; a second one doesn't wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.server.nodes import APP, client, mute, node

ASGI_APP = """
from tests.server.bad_app import *
from fastapi import FastAPI

app = FastAPI()
"""


@pytest.fixture
def apps(tmp_path: Path) -> dict[str, str]:
    """The module for each way to serve it."""
    asgi = tmp_path / "asgi_app.py"
    asgi.write_text(ASGI_APP)
    return {"aiohttp": APP, "asgi": str(asgi)}


async def test_a_running_handler_ends_and_what_it_wrote_is_there(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(database_url, tmp_path / "log", DURABLE_DRAIN_SECONDS="10") as running,
        client(running.url) as one,
    ):
        async with await one.call("/agents/room/a") as watcher:
            slow = asyncio.create_task(one.get("/agents/room/a/slow?seconds=1"))
            await watcher.until("slow begins")
            running.terminate()
            assert await watcher.closed() == (1001, "The server is shutting down")
        assert await slow == (200, "slow ends")
        assert await running.ended() == 0
    async with (
        node(database_url, tmp_path / "log") as running,
        client(running.url) as one,
    ):
        assert await one.get("/agents/room/a") == (200, '{"count":1}')


async def test_after_a_drain_every_shard_is_released_and_the_worker_has_left(
    database_url: str, tmp_path: Path
) -> None:
    async with node(database_url, tmp_path / "log") as running:
        async with client(running.url) as one:
            await one.get("/agents/room/a")
        running.terminate()
        assert await running.ended() == 0
    connection = await asyncpg.connect(database_url)
    try:
        owned = "SELECT count(*) FROM durable.shard WHERE owner IS NOT NULL"
        assert await connection.fetchval(owned) == 0
        assert await connection.fetchval("SELECT count(*) FROM durable.worker") == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["aiohttp", "asgi"])
async def test_what_outlasts_the_drain_is_cut_off(
    database_url: str, tmp_path: Path, apps: dict[str, str], kind: str
) -> None:
    async with (
        node(database_url, tmp_path / "log", apps[kind]) as running,
        client(running.url) as one,
        one.session.get(one.url + "/agents/room/a/stream") as stream,
    ):
        await stream.content.readuntil(b"\n\n")
        async with await one.call("/agents/room/b") as watcher:
            slow = asyncio.create_task(one.get("/agents/room/b/slow?seconds=60"))
            await watcher.until("slow begins")
        running.terminate()
        begun = time.monotonic()
        assert await running.ended() == 0
        assert time.monotonic() - begun < 8
        with pytest.raises(aiohttp.ClientError):
            await stream.read()
        with pytest.raises(aiohttp.ClientError):
            await slow


async def test_a_client_that_answers_no_close_does_not_hold_up_the_end(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(database_url, tmp_path / "log") as running,
        mute(running.port, "/agents/room/a"),
    ):
        running.terminate()
        assert await running.ended() == 0


async def test_a_second_signal_ends_at_once(database_url: str, tmp_path: Path) -> None:
    async with (
        node(database_url, tmp_path / "log", DURABLE_DRAIN_SECONDS="60") as running,
        client(running.url) as one,
        await one.call("/agents/room/a") as watcher,
    ):
        slow = asyncio.create_task(one.get("/agents/room/a/slow?seconds=60"))
        await watcher.until("slow begins")
        running.terminate()
        await watcher.closed()
        running.terminate()
        assert await running.ended() == 1
        with pytest.raises(aiohttp.ClientError):
            await slow
