"""HTTP requests to an agent by agent_fetch."""

from __future__ import annotations

import json

import aiohttp
import pytest

from agents.client import agent_fetch
from tests.agents.scripted_agent import ScriptedAgent


async def test_an_awaited_response_is_there_to_its_end(server: ScriptedAgent) -> None:
    response = await agent_fetch(
        agent="MyCounter",
        name="a b",
        host=server.host,
        path="sum",
        query={"n": 1},
        method="POST",
        json={"by": 2},
    )
    path = "/agents/my-counter/a%20b/sum?n=1"
    assert response.status == 202
    assert await response.json() == {"path": path}
    assert json.loads(await response.text()) == {"path": path}
    (method, asked, body), *others = server.requests
    assert not others
    assert (method, asked, json.loads(body)) == ("POST", path, {"by": 2})


async def test_a_request_is_a_get_to_the_default_instance_without_an_id(
    server: ScriptedAgent,
) -> None:
    await agent_fetch(agent="Counter", host=server.host)
    assert server.requests == [("GET", "/agents/counter/default", b"")]


async def test_a_body_can_be_read_as_it_comes(server: ScriptedAgent) -> None:
    async with agent_fetch(agent="Counter", host=server.host) as response:
        parts = [part async for part in response.content.iter_any()]
    assert json.loads(b"".join(parts)) == {"path": "/agents/counter/default"}


async def test_a_session_that_is_given_stays_open(server: ScriptedAgent) -> None:
    async with aiohttp.ClientSession(headers={"X-Token": "t"}) as session:
        for _ in range(2):
            response = await agent_fetch(
                agent="Counter", host=server.host, session=session
            )
            assert response.request_info.headers["X-Token"] == "t"
        assert not session.closed


async def test_a_failure_to_connect_is_raised() -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await agent_fetch(agent="Counter", host="127.0.0.1:1")
