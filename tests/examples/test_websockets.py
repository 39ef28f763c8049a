"""The examples of the page *Using WebSockets*."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial

import aiohttp

from agents.client import AgentClient
from tests.examples.serving import REPOSITORY


async def test_echo_keeps_text_text_and_bytes_bytes(
    http: aiohttp.ClientSession,
) -> None:
    async with http.ws_connect("/agents/echo/one") as socket:
        while (await socket.receive_json())["type"] != "cf_agent_mcp_servers":
            pass
        await socket.send_str("hello")
        await socket.send_bytes(b"\x00\xff")
        assert await socket.receive_str(timeout=10) == "hello"
        assert await socket.receive_bytes(timeout=10) == b"\x00\xff"


async def test_events_tells_operators_of_errors_and_of_those_who_left(
    host: str,
) -> None:
    operator: asyncio.Queue[str | bytes] = asyncio.Queue()
    other: asyncio.Queue[str | bytes] = asyncio.Queue()
    join = partial(AgentClient, agent="switchboard", name="one", host=host)
    async with (
        join(query={"role": "operator"}, on_message=operator.put_nowait) as listening,
        join(on_message=other.put_nowait) as staying,
    ):
        await listening.ready
        await staying.ready
        async with join() as leaving:
            await leaving.ready
            leaving.send("hello")
            assert await operator.get() == "hello"
            assert await other.get() == "hello"
            leaving.send("oops")
            assert json.loads(await operator.get()) == {
                "event": "error",
                "text": "the wire is down",
            }
        closed = json.loads(await operator.get())
    assert (closed["event"], closed["code"]) == ("closed", 1000)
    assert other.empty(), "news is for operators only"


async def test_dialogue_client_gets_an_answer(host: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/websockets/dialogue_client.py",
        host,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert said.strip() == 'Received: {"type": "insight", "words": 5}'
