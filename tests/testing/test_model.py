"""The scripted model, asked as a client of OpenAI's API asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from durable.testing import Refuse, Say, ScriptedModel

HI = {"model": "m", "messages": [{"role": "user", "content": "hi there"}]}


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_it_says_what_the_script_says_and_keeps_what_it_was_asked(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedModel(["one", "two"]) as model:
        for said in ("one", "two"):
            async with http.post(f"{model.url}/chat/completions", json=HI) as got:
                answer = await got.json()
            assert answer["choices"][0]["message"]["content"] == said
            assert answer["usage"]["completion_tokens"] == 1
        async with http.post(f"{model.url}/chat/completions", json=HI) as got:
            assert got.status == 500
            assert "at its end" in await got.text()
        assert [asked.body for asked in model.requests] == [HI] * 3
        assert model.requests[0].path == "/v1/chat/completions"


async def test_a_stream_has_a_chunk_for_each_piece_then_tools_usage_and_done(
    http: aiohttp.ClientSession,
) -> None:
    step = Say(["a ", "b"], tools=[("weather", {"city": "Oslo"})])
    body = {**HI, "stream": True, "stream_options": {"include_usage": True}}
    async with ScriptedModel([step]) as model:
        async with http.post(f"{model.url}/chat/completions", json=body) as got:
            assert got.content_type == "text/event-stream"
            *chunks, usage, done = events(await got.text())
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == 2
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == "a b"
    parts = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert parts[0]["function"]["name"] == "weather"
    text = "".join(part["function"]["arguments"] for part in parts)
    assert json.loads(text) == {"city": "Oslo"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_test_lets_the_pieces_out_one_by_one(
    http: aiohttp.ClientSession,
) -> None:
    step = Say(["a", "b"], paced=True)
    async with ScriptedModel([step]) as model:
        body = {**HI, "stream": True}
        async with http.post(f"{model.url}/chat/completions", json=body) as got:
            step.let(1)
            await step.sent(1)
            seen = ""
            while '"a"' not in seen:
                seen += (await got.content.readany()).decode()
            assert '"b"' not in seen
            step.let()
            assert '"b"' in await got.text()


async def test_a_cut_stream_breaks_off_after_its_pieces(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedModel([Say(["a", "b"], cut_after=1)]) as model:
        body = {**HI, "stream": True}
        seen, was_cut = b"", False
        async with http.post(f"{model.url}/chat/completions", json=body) as got:
            try:
                while piece := await got.content.readany():
                    seen += piece
            except aiohttp.ClientPayloadError:
                was_cut = True
    assert was_cut
    assert b'"a"' in seen
    assert b'"b"' not in seen


async def test_it_refuses_as_a_provider_does(http: aiohttp.ClientSession) -> None:
    script = [Refuse(429, "slow down", retry_after=2.5), Refuse(503)]
    async with ScriptedModel(script, otherwise="ok", api_key="k") as model:
        key = {"Authorization": "Bearer k"}
        chat = f"{model.url}/chat/completions"
        async with http.post(chat, json=HI) as got:
            assert got.status == 401
        async with http.post(chat, json=HI, headers=key) as got:
            assert (got.status, got.headers["Retry-After"]) == (429, "2.5")
            assert (await got.json())["error"]["message"] == "slow down"
        async with http.post(f"{model.url}/embeddings", json={}, headers=key) as got:
            assert got.status == 503
        async with http.post(chat, json=HI, headers=key) as got:
            assert got.status == 200


async def test_embeddings_are_near_when_words_are_shared(
    http: aiohttp.ClientSession,
) -> None:
    texts = ["the cat sleeps", "a cat sleeps", "stocks fell sharply"]
    async with ScriptedModel() as model:
        body = {"model": "e", "input": texts}
        async with http.post(f"{model.url}/embeddings", json=body) as got:
            data = (await got.json())["data"]
    cat, other, stocks = (row["embedding"] for row in data)
    near = sum(a * b for a, b in zip(cat, other, strict=True))
    far = sum(a * b for a, b in zip(cat, stocks, strict=True))
    assert near > 0.5 > far


async def test_the_responses_api(http: aiohttp.ClientSession) -> None:
    step = Say(["x", "y"], tools=[("f", {})])
    async with ScriptedModel([step, step]) as model:
        body = {"model": "m", "input": "hi"}
        async with http.post(f"{model.url}/responses", json=body) as got:
            output = (await got.json())["output"]
        assert output[0]["content"][0]["text"] == "xy"
        assert output[1]["name"] == "f"
        streamed = {**body, "stream": True}
        async with http.post(f"{model.url}/responses", json=streamed) as got:
            found = events(await got.text())
    assert [event["delta"] for event in found if "delta" in event] == ["x", "y"]
    assert found[-1]["response"]["status"] == "completed"


async def test_an_answer_that_is_never_let_out_does_not_keep_the_test(
    http: aiohttp.ClientSession,
) -> None:
    async with asyncio.timeout(5):
        async with ScriptedModel([Say(["a"], paced=True)]) as model:
            asking = asyncio.ensure_future(
                http.post(f"{model.url}/chat/completions", json=HI)
            )
            await model.asked(1)
        with pytest.raises(aiohttp.ClientError):
            await asking
