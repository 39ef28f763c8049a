"""The scripted model, asked over HTTP as a model is."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import aiohttp
import pytest

from durable.testing.model import Answer, ScriptedModel, ToolCall, embedding


async def ask(model: ScriptedModel, text: str = "hi", **more: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{model.url}/chat/completions", json=body) as response,
    ):
        if not more.get("stream"):
            return response.status, response.headers, await response.json()
        lines = []
        async for line in response.content:
            if line.startswith(b"data: {"):
                lines.append(json.loads(line[6:]))
        return lines


def said(chunks: list[Any]) -> str:
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


async def test_answers_are_played_in_order_and_the_question_is_kept() -> None:
    async with ScriptedModel("one two", Answer("three")) as model:
        status, _, first = await ask(model, "what is it")
        assert (status, first["choices"][0]["finish_reason"]) == (200, "stop")
        assert first["choices"][0]["message"]["content"] == "one two"
        assert first["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
        }
        model.play("four")
        told = [(await ask(model))[2] for _ in range(3)]
        texts = [answer["choices"][0]["message"]["content"] for answer in told]
        assert texts == ["three", "four", "You said: hi"]
        assert model.asked[0]["messages"][0]["content"] == "what is it"


async def test_streams_come_by_words_with_tools_and_usage() -> None:
    calls = (ToolCall("add", {"a": 1, "b": 2}), ToolCall("stop", id="call_2"))
    async with ScriptedModel(Answer("Let me see. ", calls)) as model:
        chunks = await ask(model, stream=True, stream_options={"include_usage": True})
    assert said(chunks) == "Let me see. "
    assert sum("content" in c["choices"][0]["delta"] for c in chunks[:-1]) == 3
    arguments: dict[int, str] = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        for call in chunk["choices"][0]["delta"].get("tool_calls", []):
            arguments[call["index"]] += call["function"]["arguments"]
    assert json.loads(arguments[0]) == {"a": 1, "b": 2}
    assert arguments[1] == "{}"
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_failures_are_those_of_models() -> None:
    script = [Answer(status=429, retry_after=2), Answer(status=500)]
    async with ScriptedModel(*script) as model:
        status, headers, body = await ask(model)
        assert (status, headers["Retry-After"]) == (429, "2")
        assert body["error"]["message"] == "Rate limit reached"
        assert (await ask(model))[0] == 500
    async with ScriptedModel(api_key="secret") as model:
        assert (await ask(model))[0] == 401
        assert model.asked == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_is_lost_in_mid_answer(stream: bool) -> None:
    async with ScriptedModel(Answer("a b c d", cut_after=2)) as model:
        with pytest.raises(aiohttp.ClientError):
            await ask(model, stream=stream)


async def test_a_slow_answer_waits_for_the_test() -> None:
    hold = asyncio.Event()
    async with ScriptedModel(Answer("a b", hold=hold, pause=0.001)) as model:
        asking = asyncio.create_task(ask(model, stream=True))
        async with asyncio.timeout(5):
            while not model.asked:  # noqa: ASYNC110  # the server is a task beside
                await asyncio.sleep(0)
        assert not asking.done()
        hold.set()
        assert said(await asking) == "a b"


async def test_embeddings_are_near_where_words_are_shared() -> None:
    async with ScriptedModel() as model, aiohttp.ClientSession() as session:
        texts = ["the old pond", "an old silent pond", "rates of interest"]
        body = {"model": "e", "input": texts}
        async with session.post(f"{model.url}/embeddings", json=body) as response:
            data = (await response.json())["data"]
    one, near, far = (item["embedding"] for item in data)
    assert one == embedding("The old pond!")

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(one, near) > likeness(one, far)


async def test_it_may_be_served_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "durable.testing.model"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        body = {"messages": [{"role": "user", "content": "hello"}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/chat/completions", json=body) as response,
        ):
            [choice] = (await response.json())["choices"]
        assert choice["message"]["content"] == "You said: hello"
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_the_responses_api_has_the_same_script() -> None:
    script = Answer("a b", (ToolCall("f", {"x": 1}),))
    async with (
        ScriptedModel(script, script, Answer(status=500)) as model,
        aiohttp.ClientSession() as session,
    ):
        url, body = f"{model.url}/responses", {"model": "m", "input": "hi"}
        async with session.post(url, json=body) as response:
            message, call = (await response.json())["output"]
        assert message["content"][0]["text"] == "a b"
        assert json.loads(call["arguments"]) == {"x": 1}
        async with session.post(url, json={**body, "stream": True}) as response:
            lines = (await response.text()).split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
        assert [e["delta"] for e in events if "delta" in e] == ["a ", "b"]
        assert events[-1]["response"]["usage"]["output_tokens"] == 2
        async with session.post(url, json=body) as response:
            assert response.status == 500
        assert [asked.path for asked in model.requests] == ["/v1/responses"] * 3


async def test_pieces_leave_one_by_one_and_what_is_held_ends_with_the_test() -> None:
    turns = asyncio.Semaphore(1)
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        async with ScriptedModel(Answer("a b", hold=turns)) as model:
            body = {"messages": [], "stream": True}
            async with session.post(
                f"{model.url}/chat/completions", json=body
            ) as response:
                await model.until_asked(1)
                seen = await response.content.readuntil(b"\n\n")
        assert b'"a "' in seen
        assert b'"b"' not in seen


@pytest.mark.parametrize("answered", [[], ["c1"], ["c1", "c2"]])
async def test_a_history_with_a_call_that_has_no_result_is_refused(
    answered: list[str],
) -> None:
    calls: list[Any] = [
        {"id": id, "type": "function", "function": {}} for id in ("c1", "c2")
    ]
    results = [{"role": "tool", "tool_call_id": id, "content": ""} for id in answered]
    history = [{"role": "assistant", "tool_calls": calls}, *results]
    async with ScriptedModel() as model:
        status, _, body = await ask(
            model, messages=[*history, {"role": "user", "content": "hi"}]
        )
    if len(answered) == 2:
        assert status == 200
    else:
        assert status == 400
        assert "c2 did not have one" in body["error"]["message"]
