"""The examples of the page *Agents API*, over HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import pytest

from agents.client import AgentCallError, AgentClient, AgentConnectionError
from tests.examples.serving import REPOSITORY


async def test_smallest_agent_shares_a_state_between_its_clients(host: str) -> None:
    seen: asyncio.Queue[object] = asyncio.Queue()
    async with (
        AgentClient(agent="smallest", name="a", host=host) as writer,
        AgentClient(
            agent="smallest",
            name="a",
            host=host,
            on_state_update=lambda state, source: seen.put_nowait((state, source)),
        ) as reader,
    ):
        await writer.ready
        await reader.ready
        writer.set_state({"tea": True})
        assert await seen.get() == ({"tea": True}, "server")


async def test_smallest_agent_answers_http_with_not_implemented(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/agents/smallest/a") as response:
        assert (response.status, await response.text()) == (404, "Not implemented")


async def test_lifecycle_hooks_answer_each_kind_of_event(
    http: aiohttp.ClientSession, host: str
) -> None:
    async with http.get("/agents/front-desk/hotel") as response:
        assert await response.text() == "hotel is open"
    heard: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with AgentClient(
        agent="front-desk", name="hotel", host=host, on_message=heard.put_nowait
    ) as client:
        assert await heard.get() == "Welcome"
        client.send("anything")
        assert await heard.get() == "Received your message"
        assert await client.call("check_in", ["Ada"]) == 1
        assert client.state["messages"] == ["Ada checked in"]
        assert client.state["last_updated"] is not None


async def test_lifecycle_example_turns_a_banned_guest_away_for_good(host: str) -> None:
    closed: asyncio.Queue[AgentConnectionError] = asyncio.Queue()
    async with AgentClient(
        agent="front-desk",
        name="hotel",
        host=host,
        query={"guest": "banned"},
        on_connection_error=closed.put_nowait,
    ):
        assert (await closed.get()).code == 4403


async def test_http_counter_counts_posts_and_only_reads_with_get(
    http: aiohttp.ClientSession,
) -> None:
    for expected in (1, 2):
        async with http.post("/agents/turnstile/north") as response:
            assert (await response.json())["counter"] == expected
    async with http.get("/agents/turnstile/north") as response:
        assert (await response.json())["counter"] == 2


async def test_connection_messages_change_both_states_and_answer_the_sender(
    http: aiohttp.ClientSession,
) -> None:
    async with http.ws_connect("/agents/lounge/main") as socket:
        await socket.send_str('{"type": "update"}')
        await socket.send_str("{not json")
        frames = [await receive(socket)]
        while "error" not in frames[-1]:
            frames.append(await receive(socket))
    assert {"type": "cf_agent_state", "state": {"updates": 1}} in frames
    assert {"type": "updated", "status": "success"} in frames
    assert frames[-1] == {"error": "Invalid message format"}


async def test_message_board_keeps_the_newest_and_rings_for_everyone(host: str) -> None:
    heard: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with AgentClient(
        agent="message-board", name="history", host=host, on_message=heard.put_nowait
    ) as client:
        for text in ("one", "two", "three", "four, @everyone"):
            await client.stub.add_message("ada", text)
        texts = [message["text"] for message in client.state["messages"]]
        assert texts == ["two", "three", "four, @everyone"]
        assert json.loads(await heard.get()) == {"type": "ring", "from": "ada"}


async def test_users_sql_creates_finds_and_searches(host: str) -> None:
    async with AgentClient(agent="user-directory", name="x", host=host) as client:
        await client.stub.create_user("u1", "Ada", "ada@example.org")
        await client.stub.create_user("u2", "Bob", "bob@example.org")
        ada = await client.stub.get_user_by_id("u1")
        assert (ada["name"], ada["email"]) == ("Ada", "ada@example.org")
        assert ada["created_at"] > 1_600_000_000_000
        assert await client.stub.get_user_by_id("nobody") is None
        found = await client.stub.search_users("EXAMPLE")
        assert [user["id"] for user in found] == ["u2", "u1"]
        with pytest.raises(AgentCallError, match="duplicate key"):
            await client.stub.create_user("u1", "Eve", "eve@example.org")


async def test_python_client_shows_states_messages_and_the_board(host: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/agents_api/python_client.py",
        host,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert "Connected to message-board team" in said
    assert '"ring"' in said
    assert said.splitlines()[-2:] == ["ada: Tea, @everyone?", "bob: Yes!"]


async def receive(socket: aiohttp.ClientWebSocketResponse) -> dict[str, object]:
    frame = json.loads(await socket.receive_str(timeout=10))
    assert isinstance(frame, dict)
    return frame
