"""The examples of the page *Calling Agents*: routing, names, methods, who may enter."""

from __future__ import annotations

import aiohttp
import pytest

from agents.client import AgentClient


def of(example: str) -> dict[str, str]:
    return {"X-Example": example}


async def test_routing_finds_the_instance_and_answers_json_elsewhere(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/agents/trip-planner/rome/x", headers=of("routing")) as got:
        assert await got.json() == {
            "trip": "rome",
            "path": "/agents/trip-planner/rome/x",
        }
    async with http.get("/elsewhere", headers=of("routing")) as got:
        assert (got.status, await got.json()) == (404, {"msg": "no agent here"})


async def test_named_passes_every_request_to_one_instance(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/any/thing", headers=of("named")) as got:
        assert await got.text() == "main-hall looks up /any/thing"


async def test_methods_are_called_with_values(http: aiohttp.ClientSession) -> None:
    for number, prompt in enumerate(("Rain?", "Sun?"), start=1):
        async with http.get(
            "/", params={"prompt": prompt}, headers=of("methods")
        ) as got:
            answer = await got.json()
        assert answer["answer"] == f"Question {number}: {prompt}"
    assert answer["history"] == ["Rain?", "Sun?"]


async def test_per_user_counts_each_user_alone(http: aiohttp.ClientSession) -> None:
    counted = []
    for user in ("ada", "bob", "ada", ""):
        async with http.get(
            "/", params={"user_id": user}, headers=of("per_user")
        ) as got:
            found = await got.json()
        counted.append((found["user"], found["visits"]))
    assert counted == [("ada", 1), ("bob", 1), ("ada", 2), ("anonymous", 1)]


async def test_authentication_lets_only_those_in_who_know_the_word(
    http: aiohttp.ClientSession,
) -> None:
    path = "/private/agents/vault/treasure"
    async with http.get(path, headers=of("authentication")) as got:
        assert (got.status, await got.json()) == (401, {"error": "not authorized"})
    known = {**of("authentication"), "Authorization": "Bearer open-sesame"}
    async with http.get(path, headers=known) as got:
        assert await got.json() == {"inside": "treasure"}
    async with http.get("/agents/vault/treasure", headers=known) as got:
        assert got.status == 404


async def test_authentication_refuses_a_websocket_before_the_agent_is_made(
    http: aiohttp.ClientSession,
) -> None:
    path = "/private/agents/vault/treasure"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(path, headers=of("authentication"))
    assert refused.value.status == 403
    async with http.ws_connect(
        f"{path}?token=open-sesame", headers=of("authentication")
    ) as socket:
        assert (await socket.receive_json())["name"] == "treasure"


async def test_agent_to_agent_books_at_every_stop(
    http: aiohttp.ClientSession, host: str
) -> None:
    async with http.get("/agents/tour/rome?stops=forum,pantheon") as got:
        assert await got.json() == [
            "rome at forum, ticket 1",
            "rome at pantheon, ticket 1",
        ]
    async with http.get("/agents/tour/capri?stops=forum") as got:
        assert await got.json() == ["capri at forum, ticket 2"]
    async with AgentClient(agent="sight", name="forum", host=host) as client:
        await client.ready
        assert client.state == {"sold": 2}
