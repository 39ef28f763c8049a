"""Agents inside aiohttp, FastAPI and Starlette, each started as a user would."""

from __future__ import annotations

import sys

import aiohttp
import pytest

from agents.client import AgentClient
from tests.examples.serving import dev, running

LET_IN = {"Authorization": "Bearer letmein"}


def uvicorn(module: str) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--app-dir", "examples/calling_agents"),
        *(f"{module}:app", "--port", "0"),
    ]


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "examples/calling_agents/aiohttp_app.py", "0"],
        uvicorn("fastapi_app"),
    ],
    ids=["aiohttp", "fastapi"],
)
async def test_handlers_call_the_agent_that_browsers_are_connected_to(
    command: list[str], database_url: str
) -> None:
    environment = {"DURABLE_DATABASE_URL": database_url, "PYTHONPATH": "."}
    with running(command, environment) as url:
        team = command[-1] + command[1].replace("/", "")
        async with (
            aiohttp.ClientSession(url) as http,
            AgentClient(
                agent="code-review", name=team, host=url.removeprefix("http://")
            ) as client,
        ):
            path = f"/code-review/{team}"
            async with http.get(path) as got:
                assert got.status == 401
            async with http.post(
                path, params={"text": "Nice"}, data="Nice", headers=LET_IN
            ) as got:
                assert await got.json() == {"count": 1}
            await client.ready
            assert client.state == {"comments": ["Nice"]}
            assert await client.stub.comment("Shorter?") == 2
            async with http.get(path, headers=LET_IN) as got:
                assert await got.json() == ["Nice", "Shorter?"]
            async with http.get("/elsewhere") as got:
                assert got.status == 404
            async with http.get("/agents/no-such-agent/x") as got:
                assert got.status == 400


async def test_starlette_mounts_the_agents_beside_its_own_routes(
    database_url: str,
) -> None:
    environment = {"DURABLE_DATABASE_URL": database_url, "PYTHONPATH": "."}
    with running(uvicorn("starlette_app"), environment) as url:
        async with (
            aiohttp.ClientSession(url) as http,
            AgentClient(
                agent="ballot", name="tea", host=url.removeprefix("http://")
            ) as client,
        ):
            assert await client.stub.vote() == 1
            async with http.post("/votes/tea") as got:
                assert await got.json() == {"votes": 2}
            assert client.state == {"votes": 2}
            async with http.get("/agents/ballot/tea") as got:
                assert (got.status, await got.text()) == (404, "Not implemented")


@pytest.mark.parametrize("example", ["served_aiohttp", "served_fastapi"])
async def test_durable_serves_an_application_with_the_agents_of_its_module(
    example: str, database_url: str
) -> None:
    command = dev(f"examples/calling_agents/{example}.py:app")
    with running(command, {"DURABLE_DATABASE_URL": database_url}) as url:
        async with (
            aiohttp.ClientSession(url) as http,
            AgentClient(
                agent="poll", name="tea", host=url.removeprefix("http://")
            ) as client,
        ):
            assert await client.stub.vote() == 1
            async with http.post("/polls/tea") as got:
                assert await got.json() == {"votes": 2}
            async with http.get("/elsewhere") as got:
                assert got.status == 404
