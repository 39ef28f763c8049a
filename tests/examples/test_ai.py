"""The examples of the page *Using AI Models*, with a model that is offline."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import aiohttp
import pytest

from durable.testing import ScriptedModel
from durable.testing import databases as postgres
from tests.examples.model import WORDS, chat_server
from tests.examples.serving import REPOSITORY, dev, running

SAID = "".join(WORDS)


@pytest.fixture(scope="module")
def ai_model() -> Iterator[ScriptedModel]:
    with chat_server() as model:
        yield model


@pytest.fixture(scope="module")
def ai_url(postgres_server: str, ai_model: ScriptedModel) -> Iterator[str]:
    with postgres.fresh_database(postgres_server) as dsn:
        environment = {
            "DURABLE_DATABASE_URL": dsn,
            "DURABLE_VAR_MODEL_URL": ai_model.url,
            "DURABLE_VAR_GEMINI_URL": ai_model.url,
            "DURABLE_VAR_GEMINI_API_KEY": "gemini-key",
            # The server is this checkout's, from whichever directory it starts.
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
        where = REPOSITORY / "examples" / "ai"
        with running(dev("models.py"), environment, where) as url:
            yield url


async def test_pieces_come_over_a_websocket_and_then_that_it_is_done(
    ai_url: str,
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{ai_url}/agents/reasoner/me") as socket,
    ):
        await socket.send_str(json.dumps({"prompt": "Why?"}))
        seen = []
        while {"type": "done"} not in seen:
            message = await socket.receive_json(timeout=20)
            if message["type"] in ("chunk", "done", "error"):
                seen.append(message)
    chunks = [{"type": "chunk", "content": word} for word in WORDS]
    assert seen == [*chunks, {"type": "done"}]


async def test_a_stream_is_passed_on_as_events(
    ai_url: str, ai_model: ScriptedModel
) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"prompt": "Write a haiku"}
        async with session.post(f"{ai_url}/agents/streamer/me", json=body) as answer:
            assert answer.content_type == "text/event-stream"
            events = (await answer.text()).split("\n\n")
    assert events[: len(WORDS)] == [
        f"data: {json.dumps({'response': word})}" for word in WORDS
    ]
    assert events[-2:] == ["data: [DONE]", ""]
    asked = ai_model.asked[-1]
    assert asked["model"] == "deepseek-r1:32b"
    assert asked["messages"] == [{"role": "user", "content": "Write a haiku"}]


async def test_the_gateway_asks_once(ai_url: str, ai_model: ScriptedModel) -> None:
    found = []
    before = len(ai_model.asked)
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(f"{ai_url}/agents/routed/me") as answer:
                found.append(await answer.json())
    assert [one["response"] for one in found] == [SAID] * 2
    assert [one["gateway"]["cache_status"] for one in found] == ["MISS", "HIT"]
    assert len(ai_model.asked) == before + 1


async def test_one_text_whole_and_another_provider_with_its_key(
    ai_url: str, ai_model: ScriptedModel
) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{ai_url}/agents/generator/me") as answer:
            assert await answer.json() == {"modelResponse": SAID}
        async with session.get(f"{ai_url}/agents/compatible/me") as answer:
            assert await answer.text() == SAID
    asked = ai_model.requests[-1]
    assert asked.headers["Authorization"] == "Bearer gemini-key"
    assert asked.body["model"] == "gemini-flash"


async def test_a_chat_answers_with_its_policies_in_mind(
    ai_url: str, ai_model: ScriptedModel
) -> None:
    question = {"type": "text", "text": "May I return it?"}
    message = {"id": "m1", "role": "user", "parts": [question]}
    init = {"method": "POST", "body": json.dumps({"messages": [message]})}
    request = {"type": "cf_agent_use_chat_request", "id": "r1", "init": init}
    said = ""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{ai_url}/agents/customer-support/me") as socket,
    ):
        await socket.send_json(request)
        while True:
            frame = await socket.receive_json(timeout=20)
            if frame["type"] != "cf_agent_use_chat_response":
                continue
            if frame["done"]:
                break
            said += json.loads(frame["body"]).get("delta", "")
    assert said == SAID
    system, user = ai_model.asked[-1]["messages"]
    assert system["role"] == "system"
    assert "returns within 30 days" in system["content"]
    assert user == {"role": "user", "content": "May I return it?"}
