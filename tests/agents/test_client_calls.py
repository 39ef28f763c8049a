"""Calls and streams of AgentClient while its socket is up."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agents.client import AgentCallError
from tests.agents.scripted_agent import (
    ControlledTimers,
    Peer,
    ScriptedAgent,
    make_client,
    turns,
)


async def test_a_call_gives_the_result(server: ScriptedAgent) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("add", [1, "two"]))
        sent = await peer.answer({"sum": 3})
        assert await call == {"sum": 3}
        assert sent == {
            "type": "rpc",
            "id": sent["id"],
            "method": "add",
            "args": [1, "two"],
        }


async def test_calls_are_answered_in_any_order(server: ScriptedAgent) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        calls = [asyncio.ensure_future(client.call("m", [n])) for n in range(3)]
        asked = [await peer.receive() for _ in calls]
        for call in reversed(asked):
            answer = {"type": "rpc", "id": call["id"], "success": True, "done": True}
            await peer.send({**answer, "result": call["args"][0]})
        assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_a_result_that_is_left_out_is_none(server: ScriptedAgent) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("nothing"))
        asked = await peer.receive()
        # Old servers leave `done` out, too.
        await peer.send({"type": "rpc", "id": asked["id"], "success": True})
        assert await call is None


async def test_an_error_of_the_agent_is_raised_with_its_text(
    server: ScriptedAgent,
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("fail"))
        asked = await peer.receive()
        failure = {"type": "rpc", "id": asked["id"], "success": False}
        await peer.send({**failure, "error": "no such luck"})
        with pytest.raises(AgentCallError, match=r"^no such luck$") as caught:
            await call
        assert caught.value.method == "fail"


async def test_the_stub_calls_methods_by_name(server: ScriptedAgent) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.stub.add(1, 2))
        sent = await peer.answer(3)
        assert await call == 3
        assert (sent["method"], sent["args"]) == ("add", [1, 2])
        assert not hasattr(client.stub, "_repr_html_")


async def test_a_call_times_out_after_30_s_by_default_and_its_answer_is_dropped(
    server: ScriptedAgent, timers: ControlledTimers, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_client(server, timers=timers) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("slow"))
        asked = await peer.receive()
        timers.advance(29.9)
        await turns()
        assert not call.done()
        timers.advance(0.2)
        with pytest.raises(TimeoutError, match="slow timed out after 30000ms"):
            await call
        with caplog.at_level(logging.WARNING, logger="agents"):
            await peer.send({"type": "rpc", "id": asked["id"], "success": True})
            await peer.identify()
            await client.ready
        assert "no call waits for" in caplog.text


@pytest.mark.parametrize("unlimited", [0, None])
async def test_a_call_has_the_time_limit_that_it_is_given(
    server: ScriptedAgent, timers: ControlledTimers, unlimited: float | None
) -> None:
    async with make_client(server, timers=timers, default_call_timeout=7) as client:
        peer = await server.accept()
        short = asyncio.ensure_future(client.call("a", timeout=2))
        usual = asyncio.ensure_future(client.call("b"))
        endless = asyncio.ensure_future(client.call("c", timeout=unlimited))
        chunked = asyncio.ensure_future(client.call("d", on_chunk=print))
        for _ in range(4):
            await peer.receive()
        timers.advance(2)
        with pytest.raises(TimeoutError):
            await short
        assert not usual.done()
        timers.advance(5)
        with pytest.raises(TimeoutError):
            await usual
        timers.advance(100_000)
        await turns()
        assert not endless.done()
        assert not chunked.done()
        client.close()
        for call in (endless, chunked):
            with pytest.raises(ConnectionError, match=r"^Connection closed$"):
                await call


async def send_chunks(peer: Peer, call_id: str, *values: Any) -> None:
    for value in values:
        frame = {"type": "rpc", "id": call_id, "success": True, "done": False}
        await peer.send({**frame, "result": value})


async def test_on_chunk_hears_the_chunks_before_the_final_value(
    server: ScriptedAgent,
) -> None:
    chunks: list[int] = []
    async with make_client(server) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("count", [2], on_chunk=chunks.append))
        asked = await peer.receive()
        await send_chunks(peer, asked["id"], 0, 1)
        done = {"type": "rpc", "id": asked["id"], "success": True, "done": True}
        await peer.send({**done, "result": "done"})
        assert await call == "done"
        assert chunks == [0, 1]


async def test_a_stream_gives_chunks_and_then_its_final_value(
    server: ScriptedAgent,
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        stream = client.stream("count", [3])
        with pytest.raises(RuntimeError, match="not ended"):
            _ = stream.result
        asked = await peer.receive()
        await send_chunks(peer, asked["id"], 0, None, 2)
        done = {"type": "rpc", "id": asked["id"], "success": True, "done": True}
        await peer.send({**done, "result": "done"})
        assert [chunk async for chunk in stream] == [0, None, 2]
        assert stream.result == "done"
        assert [chunk async for chunk in stream] == []


async def test_a_stream_raises_the_agents_error_after_its_chunks(
    server: ScriptedAgent,
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        stream = client.stream("count")
        asked = await peer.receive()
        await send_chunks(peer, asked["id"], 0)
        failure = {"type": "rpc", "id": asked["id"], "success": False}
        await peer.send({**failure, "error": "broke"})
        assert await anext(stream) == 0
        with pytest.raises(AgentCallError, match="broke"):
            await anext(stream)
        with pytest.raises(AgentCallError, match="broke"):
            _ = stream.result


async def test_a_stream_that_is_left_early_is_not_listened_to(
    server: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        stream = client.stream("count")
        asked = await peer.receive()
        await send_chunks(peer, asked["id"], 0)
        assert await anext(stream) == 0
        await stream.aclose()
        await send_chunks(peer, asked["id"], 1)
        await peer.identify()
        await client.ready
        assert [chunk async for chunk in stream] == []
        with pytest.raises(RuntimeError, match="left before its end"):
            _ = stream.result
        assert caplog.text == ""
