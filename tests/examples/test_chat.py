"""examples/chat/assistant.py, with a model that plays a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from durable.testing.model import Answer, ScriptedModel, ToolCall
from examples.chat.assistant import Assistant
from tests.wire.raw import Socket, Wire

Frame = dict[str, Any]


@pytest.fixture
def durable_app() -> list[type[Assistant]]:
    return [Assistant]


@pytest_asyncio.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest_asyncio.fixture
async def chat(
    make_fleet: Any, scripted: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Wire, Socket]]:
    fleet = await make_fleet(settings={"vars": {"MODEL_URL": scripted.url}})
    async with aiohttp.ClientSession() as session:
        wire = Wire(session, fleet.nodes[0].url)
        yield wire, await wire.open("/agents/assistant/me")


async def ask(socket: Socket, id: str, text: str) -> list[Frame]:
    """Ask; the frames of the turn."""
    parts = [{"type": "text", "text": text}]
    message = {"id": f"m-{id}", "role": "user", "parts": parts}
    init = {"method": "POST", "body": json.dumps({"messages": [message]})}
    await socket.send({"type": "cf_agent_use_chat_request", "id": id, "init": init})
    return await until(socket, lambda frame: frame["id"] == id)


async def until(socket: Socket, of: Callable[[Frame], bool]) -> list[Frame]:
    """The frames up to the end of a turn."""
    frames: list[Frame] = []
    while True:
        frame = await socket.receive()
        frames.append(frame)
        if frame["type"] == "cf_agent_use_chat_response" and frame["done"]:
            assert of(frame)
            return frames


async def history(wire: Wire) -> list[Any]:
    """What is stored, in short."""
    messages = await wire.json("/agents/assistant/me/get-messages")
    return [
        [p.get("text") or p.get("output") or p.get("state") for p in m["parts"][1:]]
        for m in messages
        if m["role"] == "assistant"
    ]


async def test_an_answer_streams_as_the_model_says_it(
    chat: tuple[Wire, Socket], scripted: ScriptedModel
) -> None:
    wire, socket = chat
    scripted.play("An old silent pond")
    frames = await ask(socket, "1", "a haiku")
    assert sum("text-delta" in frame["body"] for frame in frames) == 4
    assert await history(wire) == [["An old silent pond"]]
    assert scripted.asked[0]["messages"] == [{"role": "user", "content": "a haiku"}]


async def test_a_tool_is_run_and_the_model_asked_again(
    chat: tuple[Wire, Socket], scripted: ScriptedModel
) -> None:
    wire, socket = chat
    call = ToolCall("weather", {"city": "Oslo"})
    scripted.play(Answer("Let me look.", (call,)), "Four degrees.")
    await ask(socket, "1", "the weather?")
    weather = {"city": "Oslo", "celsius": 4, "sky": "clear"}
    [answer] = await history(wire)
    assert answer == ["Let me look.", weather, None, "Four degrees."]
    assert json.loads(scripted.asked[1]["messages"][-1]["content"]) == weather


@pytest.mark.parametrize("approved", [True, False])
async def test_an_order_waits_for_the_user(
    chat: tuple[Wire, Socket], scripted: ScriptedModel, approved: bool
) -> None:
    wire, socket = chat
    scripted.play(Answer("", (ToolCall("order", {"thing": "a boat"}),)), "Well.")
    await ask(socket, "1", "a boat, please")
    assert await history(wire) == [["approval-requested"]]
    decision = {"toolCallId": "call_1", "approved": approved, "autoContinue": True}
    await socket.send({"type": "cf_agent_tool_approval", **decision})
    await until(socket, lambda frame: frame["continuation"] is True)
    [answer] = await history(wire)
    result = "ordered: a boat" if approved else "output-denied"
    assert answer == [result, None, "Well."]
    said = json.loads(scripted.asked[1]["messages"][-1]["content"])
    assert said == ("ordered: a boat" if approved else "The user said no.")
    # Days later it is still known, once, what was said.
    scripted.play("And now?")
    await ask(socket, "2", "something else")
    assert (await history(wire))[-1] == ["And now?"]
    told = [m["content"] for m in scripted.asked[2]["messages"] if m["role"] == "tool"]
    assert [json.loads(text) for text in told] == [said]


async def test_who_asks_something_else_has_not_decided_yet(
    chat: tuple[Wire, Socket], scripted: ScriptedModel
) -> None:
    wire, socket = chat
    scripted.play(Answer("", (ToolCall("order", {"thing": "a boat"}),)), "Four.")
    await ask(socket, "1", "a boat, please")
    await ask(socket, "2", "two and two?")
    assert (await history(wire))[-1] == ["Four."]
    [told] = [
        m["content"] for m in scripted.asked[1]["messages"] if m["role"] == "tool"
    ]
    assert json.loads(told) == "The user hasn't decided yet."


async def test_a_model_that_fails_is_heard_of_and_the_next_question_is_answered(
    chat: tuple[Wire, Socket], scripted: ScriptedModel
) -> None:
    wire, socket = chat
    scripted.play(Answer(status=500), Answer("half an answer", cut_after=2), "Fine.")
    frames = await ask(socket, "1", "one")
    assert (frames[-1]["error"], frames[-1]["body"]) == (
        True,
        "The model answered with 500.",
    )
    assert (await ask(socket, "2", "two"))[-1]["error"] is True
    assert await history(wire) == [["half an "]]
    await ask(socket, "3", "three")
    assert (await history(wire))[-1] == ["Fine."]
