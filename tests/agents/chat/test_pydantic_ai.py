"""A pydantic-ai agent behind a chat: text, a tool that people approve, an abort."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from agents.chat.pydantic_ai import answer
from tests.agents.chat.chatting import Chat, Room, user


async def speak(messages: Any, info: Any) -> AsyncIterator[Any]:
    """A model: asks for the weather, then tells it."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        for word in ("It", " is ", str(last.content)):
            yield word
    else:
        yield {0: DeltaToolCall("weather", '{"city":"Oslo"}', tool_call_id="t1")}


def forecaster() -> Agent[Any, Any]:
    made: Agent[Any, Any] = Agent(
        FunctionModel(stream_function=speak), output_type=[str, DeferredToolRequests]
    )

    @made.tool_plain(requires_approval=True)
    def weather(city: str) -> str:
        return f"cold in {city}"

    return made


async def settled(room: Room, chat: type[Chat], count: int) -> None:
    """Wait for turns to end: pydantic-ai runs tools in its own tasks."""
    async with asyncio.timeout(10):
        while len(chat.ended) < count:  # noqa: ASYNC110  # a turn at a time
            await asyncio.sleep(0)
    await room.settle()


async def test_a_tool_waits_for_approval_and_the_answer_goes_on(room: Room) -> None:
    agent = forecaster()
    room.cls.handler = lambda chat, options: answer(agent, chat.messages)
    client = await room.client()
    client.ask("r1", user("u1", "weather?"))
    await settled(room, Chat, 1)
    [_, asked] = await room.stored()
    (tool,) = [p for p in asked["parts"] if p["type"] == "tool-weather"]
    assert (tool["state"], tool["input"]) == ("approval-requested", {"city": "Oslo"})

    assert await room.act(lambda chat: chat.approve_tool_call("t1", True))
    await settled(room, Chat, 2)
    [_, said] = await room.stored()
    assert said["id"] == asked["id"], "it is the same answer"
    (tool,) = [p for p in said["parts"] if p["type"] == "tool-weather"]
    assert (tool["state"], tool["output"]) == ("output-available", "cold in Oslo")
    assert "".join(p.get("text", "") for p in said["parts"]) == "It is cold in Oslo"
    assert [ended.status for ended in Chat.ended] == ["completed", "completed"]


async def test_a_model_that_fails_is_an_error_of_the_turn(room: Room) -> None:
    async def broken(messages: Any, info: Any) -> AsyncIterator[str]:
        yield "Well"
        raise RuntimeError("the model is gone")

    agent: Agent[Any, Any] = Agent(FunctionModel(stream_function=broken))
    room.cls.handler = lambda chat, options: answer(agent, chat.messages)
    client = await room.client()
    client.ask("r1", user("u1"))
    await settled(room, Chat, 1)
    (ended,) = Chat.ended
    assert ended.status == "error"
    assert "the model is gone" in str(ended.error)


async def test_an_abort_closes_the_model(room: Room) -> None:
    closed = asyncio.Event()

    async def endless(messages: Any, info: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "on and on "
                await asyncio.sleep(0)
        finally:
            closed.set()

    agent: Agent[Any, Any] = Agent(FunctionModel(stream_function=endless))
    room.cls.handler = lambda chat, options: answer(agent, chat.messages)
    client = await room.client()
    client.ask("r1", user("u1"))
    async with asyncio.timeout(10):
        while "on and on" not in client.text("r1"):  # noqa: ASYNC110  # the same
            await asyncio.sleep(0)
        client.send("cf_agent_chat_request_cancel", id="r1")
        await closed.wait()
    await settled(room, Chat, 1)
    assert Chat.ended[0].status == "aborted"


async def test_what_goes_to_the_run_arrives_there(room: Room) -> None:
    async def deps(messages: Any, info: Any) -> AsyncIterator[str]:
        yield info.instructions or "none"

    agent: Agent[str, str] = Agent(
        FunctionModel(stream_function=deps), deps_type=str, output_type=str
    )

    @agent.instructions
    def instructions(ctx: Any) -> str:
        return f"for {ctx.deps}"

    room.cls.handler = lambda chat, options: answer(agent, chat.messages, deps="Ada")
    client = await room.client()
    client.ask("r1", user("u1"))
    await settled(room, Chat, 1)
    assert client.text("r1") == "for Ada"
