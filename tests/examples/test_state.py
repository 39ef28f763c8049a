"""The examples of the page *Store and sync state*."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from agents.client import AgentCallError, AgentClient
from durable.testing import ScriptedModel


async def test_counter_increments_and_merges_what_a_client_sends(host: str) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    async with AgentClient(
        agent="dial",
        name="one",
        host=host,
        on_state_update=lambda state, source: states.put_nowait(state),
    ) as client:
        assert await states.get() == {"counter": 0, "label": ""}
        assert await client.stub.increment_counter() == 1
        assert await states.get() == {"counter": 1, "label": ""}
        client.send('{"type": "update", "data": {"label": "Volume"}}')
        assert await states.get() == {"counter": 1, "label": "Volume"}


async def test_typed_state_is_a_dataclass_inside_and_json_outside(host: str) -> None:
    async with AgentClient(agent="flight", name="tp-1", host=host) as client:
        await client.ready
        assert client.state["departure_iata"] == "LIS"
        assert client.state["arrival"].startswith("2030-05-01T12:30:00")
        assert await client.stub.raise_price() == 130
        assert client.state["price"] == 130


async def test_typed_state_refuses_what_does_not_fit(host: str) -> None:
    refused: asyncio.Queue[str] = asyncio.Queue()
    async with AgentClient(
        agent="flight", name="tp-2", host=host, on_state_update_error=refused.put_nowait
    ) as client:
        await client.ready
        client.set_state({**client.state, "price": "cheap"})
        assert await refused.get() == "State update rejected"
        assert await client.stub.raise_price(1) == 121


async def test_typed_models_keep_their_types(host: str) -> None:
    async with (
        AgentClient(agent="basket-agent", host=host) as basket,
        AgentClient(agent="lamp-agent", host=host) as lamp,
        AgentClient(agent="thermostat-agent", host=host) as thermostat,
    ):
        assert await basket.stub.put("bread") == 1
        assert await lamp.stub.switch(40) is True
        assert lamp.state == {"on": True, "watts": 40}
        assert await thermostat.stub.set_target(22.5) == 22.5
        with pytest.raises(AgentCallError, match="less than or equal to 30"):
            await thermostat.stub.set_target(99)
        assert thermostat.state == {"target": 22.5}


async def test_initial_state_reaches_the_first_client(host: str) -> None:
    expected = {"counter": 0, "text": "", "color": "#3B82F6"}
    async with AgentClient(agent="poster", name="p", host=host) as client:
        await client.ready
        assert client.state == expected
        assert await client.stub.look() == expected


async def test_user_lookup_answers_rows_and_typed_rows(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/agents/accounts/shop?user_id=u1") as got:
        assert await got.json() == [
            {"id": "u1", "name": "Ada", "email": "ada@example.org"}
        ]
    async with http.get("/agents/accounts/shop?user_id=u1&only=address") as got:
        assert await got.json() == ["ada@example.org"]
    injected = {"user_id": "' OR true --"}
    async with http.get("/agents/accounts/shop", params=injected) as got:
        assert await got.json() == []


async def test_reasoning_agent_asks_with_what_it_remembers(
    http: aiohttp.ClientSession, model: ScriptedModel
) -> None:
    for question in ("Who am I?", "And now?"):
        async with http.post(
            "/agents/reasoning-agent/me", json={"user": question, "user_id": "ada"}
        ) as got:
            assert await got.json() == {"answer": "An old silent pond"}
    first, second = (
        asked.body["messages"][1]["content"] for asked in model.requests[-2:]
    )
    assert first == "Who am I?\n\nUser history:\n"
    assert second == "And now?\n\nUser history:\nAn old silent pond"
