"""The agent by itself, over HTTP, and as its clients see it."""

from __future__ import annotations

import asyncio

from durable.testing import Fleet


async def test_its_methods_count(fleet: Fleet) -> None:
    counter = fleet.env.Counter.get_by_name("lobby")
    assert await counter.increment() == 1
    assert await counter.increment(by=2) == 3
    # What is durable is there after its sleep.
    await fleet.evict(counter)
    assert await counter.increment() == 4


async def test_http_shows_the_count(fleet: Fleet) -> None:
    http = await fleet.http()
    async with http.get("/agents/counter/lobby") as response:
        assert await response.json() == {"count": 0}
    async with http.get("/") as response:
        assert "text/html" in response.headers["Content-Type"]


async def test_a_client_sees_what_another_one_did(fleet: Fleet) -> None:
    seen: asyncio.Queue[dict[str, int]] = asyncio.Queue()
    await fleet.client(
        "counter", "lobby", on_state_update=lambda state, source: seen.put_nowait(state)
    )
    acting = await fleet.client("counter", "lobby")
    assert await seen.get() == {"count": 0}
    assert await acting.stub.increment(2) == 2
    assert await seen.get() == {"count": 2}
