"""``env.AI.run``: inputs, answers, streams, and errors that help and tell no key."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web

from agents.ai import AI, AIError, AIStream, AITimeout, binding, wire
from durable.testing import Answer, Fleet, ScriptedModel, ToolCall
from durable.testing.node import LocalNode
from server.metrics import LoopLag, generate_latest, registry_of
from tests.agents.ai.conftest import KEY

HI = {"messages": [{"role": "user", "content": "hi"}]}
WEATHER = {"name": "weather", "description": "…", "parameters": {"type": "object"}}


async def test_a_prompt_is_answered_with_text_usage_and_what_the_gateway_did(
    ai: AI, one: ScriptedModel
) -> None:
    one.play("hello there")
    answer = await ai.run("priced", {"prompt": "hi", "temperature": 0.5})
    assert answer["response"] == "hello there"
    assert answer["usage"]["completion_tokens"] == 2
    about = answer["gateway"]
    assert (about["provider"], about["model"], about["step"]) == ("one", "m-1", 0)
    assert about["cost"] == pytest.approx(
        (answer["usage"]["prompt_tokens"] * 2 + 2 * 10) / 1e6
    )
    (asked,) = one.requests
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body == {"model": "m-1", **HI, "temperature": 0.5}


async def test_an_agent_asks_and_the_tools_of_workers_ai_are_wrapped(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    one.play(Answer("", (ToolCall("weather", {"city": "Oslo"}),)))
    asker = ai_fleet.env.Asker.get_by_name("a")
    answer = await asker.ask("two/m", {**HI, "tools": [WEATHER]})
    assert answer["response"] == "from two"
    answer = await asker.ask("m", {**HI, "tools": [WEATHER]})
    (call,) = answer["tool_calls"]
    assert (call["name"], call["arguments"]) == ("weather", {"city": "Oslo"})
    function = {"type": "function", "function": WEATHER}
    assert one.requests[0].body["tools"] == [function]


async def test_embeddings_and_the_responses_api(ai: AI, one: ScriptedModel) -> None:
    found = await ai.run("e", {"text": ["a b", "a c"]})
    assert found["shape"] == [2, 64]
    assert len(found["data"][1]) == 64
    assert one.requests[0].path.endswith("/embeddings")
    one.play(Answer("x y", (ToolCall("f", {"a": 1}),)))
    answer = await ai.run("m", {"input": "hi"})
    assert answer["response"] == "x y"
    assert answer["tool_calls"][0]["arguments"] == {"a": 1}
    assert one.requests[1].path.endswith("/responses")
    with pytest.raises(ValueError, match="messages or a prompt"):
        await ai.run("m", {"question": "hi"})


@pytest.mark.parametrize("inputs", [HI, {"input": "hi"}])
async def test_a_stream_comes_as_it_is_said(
    ai: AI, one: ScriptedModel, inputs: dict[str, Any]
) -> None:
    hold = asyncio.Semaphore(1)
    step = Answer("a b", (ToolCall("f", {"x": [1, 2]}),), hold=hold)
    one.play(step)
    found = await ai.run("m", inputs, stream=True)
    assert isinstance(found, AIStream)
    assert await anext(found) == {"response": "a "}  # the second hasn't been said
    for _ in range(4):
        hold.release()
    rest = [chunk async for chunk in found]
    assert rest[0] == {"response": "b"}
    assert rest[1]["tool_calls"][0]["arguments"] == {"x": [1, 2]}
    assert rest[2]["usage"]["completion_tokens"] == 2
    row = await ai.gateway("default").get_log(found.gateway["log_id"])
    assert row is not None
    assert (row["status"], row["tokens_out"], row["stream"]) == ("ok", 2, True)


async def test_a_stream_as_events_and_as_a_raw_response(
    ai: AI, one: ScriptedModel
) -> None:
    one.play("a b", "a b", "whole")
    found = await ai.run("m", {**HI, "stream": True})
    assert [text async for text in found.text()] == ["a ", "b"]
    response = await ai.run("m", HI, stream=True, return_raw_response=True)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["cf-aig-step"] == "0"
    lines = (await response.text()).split("\n\n")
    assert lines[0] == 'data: {"response": "a "}'
    assert lines[-2] == "data: [DONE]"
    response = await ai.run("m", HI, return_raw_response=True)
    said = await response.json()
    assert said["choices"][0]["message"]["content"] == "whole"
    assert response.headers["cf-aig-log-id"]


async def test_who_stops_early_hangs_up_and_the_log_says_so(
    ai: AI, one: ScriptedModel
) -> None:
    step = Answer("a b", hold=asyncio.Semaphore(1))
    one.play(step)
    found = await ai.run("m", HI, stream=True)
    assert await anext(found) == {"response": "a "}
    await found.aclose()
    await asyncio.gather(*ai._records)
    row = await ai.gateway("default").get_log(found.gateway["log_id"])
    assert row is not None
    assert row["status"] == "cancelled"


async def test_a_cut_stream_is_an_error_after_what_was_said(
    ai: AI, one: ScriptedModel
) -> None:
    one.play(Answer("a b", cut_after=1))
    found = await ai.run("m", HI, stream=True)
    seen = []
    try:
        async for chunk in found:
            seen.append(chunk)
    except AIError as error:
        caught = error
    assert seen == [{"response": "a "}]
    assert "'one' broke off its answer" in str(caught)
    assert caught.retryable
    (row,) = await ai.gateway("default").logs()
    assert row["status"] == "error"


async def test_a_stream_that_falls_silent_is_an_error(
    ai: AI, one: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Answer("a b", hold=asyncio.Semaphore(1))
    one.play(step)
    found = await ai.run("m", HI, stream=True)
    monkeypatch.setattr(wire, "STREAM_IDLE_SECONDS", 0.05)
    assert await anext(found) == {"response": "a "}
    with pytest.raises(AIError, match=r"said nothing for 0\.05 s"):
        await anext(found)


async def test_a_request_that_takes_too_long(ai: AI, one: ScriptedModel) -> None:
    one.play(Answer("a", hold=asyncio.Event()), Answer("a", hold=asyncio.Event()))
    soon = {"request_timeout_ms": 50}
    for is_stream in (False, True):
        with pytest.raises(AITimeout, match=r"'one' gave no answer in 0\.05 s"):
            await ai.run("m", HI, stream=is_stream, gateway=soon)


async def test_what_is_too_large_is_refused(
    ai: AI, one: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_ANSWER_BYTES", 500)
    monkeypatch.setattr(wire, "MAX_EVENT_BYTES", 500)
    one.play("x" * 600, "x" * 600)
    with pytest.raises(AIError, match="an answer of more than 500 bytes"):
        await ai.run("m", HI)
    with pytest.raises(AIError, match="an event of more than 500 bytes"):
        await ai.run("m", HI, stream=True)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"'one' answered 401 \(is DURABLE_VAR_ONE_KEY right\?\): nope"),
        (404, r"'one' answered 404 \(is http.*/v1 right, and does it have 'm'\?\)"),
        (429, r"'one' answered 429 \(too many requests"),
        (500, r"'one' answered 500: nope"),
    ],
)
async def test_an_error_says_who_said_what_and_what_to_do(
    ai: AI, one: ScriptedModel, status: int, said: str
) -> None:
    one.play(Answer(status=status, message="nope", retry_after=7))
    with pytest.raises(AIError, match=said) as caught:
        await ai.run("m", HI)
    error = caught.value
    assert (error.provider, error.status, error.retry_after) == ("one", status, 7)
    (row,) = await ai.gateway("default").logs()
    assert (row["status"], row["status_code"]) == ("error", status)
    assert row["error"] == str(error)


async def test_a_provider_that_is_not_there(ai: AI, one: ScriptedModel) -> None:
    await one.__aexit__()
    with pytest.raises(AIError, match=r"can't be reached at http://127.*is it running"):
        await ai.run("m", HI)


async def test_a_redirection_does_not_get_the_key(ai: AI, two: ScriptedModel) -> None:
    async def elsewhere(request: web.BaseRequest) -> web.Response:
        return web.Response(
            status=307, headers={"Location": f"{two.url}/{request.path}"}
        )

    runner = web.ServerRunner(web.Server(elsewhere))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    ai._variables = {"ONE_URL": f"http://127.0.0.1:{port}/v1", "ONE_KEY": KEY}
    try:
        with pytest.raises(AIError, match=r"answered 307 \(a redirection, which isn't"):
            await ai.run("m", HI)
    finally:
        await runner.cleanup()
    assert two.requests == []


async def test_metrics_count_requests_and_tokens(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    one.play("two words", Answer(status=500))
    await ai_fleet.env.AI.run("m", HI)
    with pytest.raises(AIError):
        await ai_fleet.env.AI.run("m", HI)
    node = ai_fleet.nodes[0]
    assert isinstance(node, LocalNode)
    text = generate_latest(registry_of(node.runtime, LoopLag())).decode()
    for status in ("ok", "error"):
        line = f'durable_ai_requests_total{{provider="one",status="{status}"}} 1.0'
        assert line in text
    assert 'durable_ai_tokens_total{direction="out",provider="one"} 2.0' in text


async def test_a_provider_that_takes_no_connections(
    ai: AI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CONNECT_SECONDS", 0.1)
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # What its queue has no room for hangs, as behind a firewall.
        for _ in range(4):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        ai._variables = {"TWO_URL": f"http://127.0.0.1:{port}/v1"}
        with pytest.raises(AIError, match="'two' can't be reached at") as caught:
            await ai.run("two/m", HI)
    assert caught.value.retryable


async def test_the_key_is_in_no_error_no_log_and_no_repr(
    ai_fleet: Fleet, one: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ai = ai_fleet.env.AI
    # A provider that repeats the key, in both kinds of answers.
    one.play(
        Answer(status=400, message=f"bad key {KEY}"),
        Answer(status=400, message=f"bad key {KEY}"),
        Answer("a", cut_after=0),
    )
    shown = [repr(ai), repr(ai_fleet.env), repr(vars(ai)["_settings"])]
    for is_stream in (False, True, True):
        with pytest.raises(AIError) as caught:
            await ai.run("m", HI, stream=is_stream)
        shown += traceback.format_exception(caught.value)
        shown += [repr(caught.value), repr(vars(caught.value))]
    target = ai._target(ai._settings.model("m"))
    shown += [repr(target), repr(await ai.gateway("default").logs())]
    text = "".join([*shown, caplog.text])
    assert "bad key ***" in text
    assert KEY not in text
    assert target.key == KEY  # it was there to be told


async def test_a_password_in_the_address_is_not_told(ai: AI) -> None:
    ai._variables = {"TWO_URL": "http://ann:hunter2@127.0.0.1:1/v1"}
    with pytest.raises(AIError, match=r"can't be reached at http://127\.0") as caught:
        await ai.run("two/m", HI)
    shown = repr(ai._target(ai._settings.model("two/m")))
    assert "hunter2" not in shown + "".join(traceback.format_exception(caught.value))


async def test_an_answer_that_is_no_strict_json_is_given_and_not_cached(
    ai: AI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: Any) -> Any:
        message = {"role": "assistant", "content": "x", "logprob": float("nan")}
        return {"choices": [{"message": message}]}

    monkeypatch.setattr(ai._wire, "ask", ask)
    answer = await ai.run("m", HI, gateway={"id": "cached"})
    assert answer["response"] == "x"


async def test_a_missing_key_and_unknown_names_say_what_to_set(ai: AI) -> None:
    ai._variables = {"TWO_URL": "http://127.0.0.1:1"}
    with pytest.raises(AIError, match="'one' has no address: set DURABLE_VAR_ONE_URL"):
        await ai.run("m", HI)
    ai._variables = {"ONE_URL": "http://127.0.0.1:1"}
    with pytest.raises(AIError, match=r"'one' has no key: set DURABLE_VAR_ONE_KEY"):
        await ai.run("m", HI)
    with pytest.raises(AIError, match=r"no gateway 'cahced' \(did you mean 'cached'"):
        await ai.run("m", HI, gateway={"id": "cahced"})
    with pytest.raises(ValueError, match="gateway has no 'cacheTtl'; did you mean"):
        await ai.run("m", HI, gateway={"cacheTtl": 5})


async def test_a_node_that_ends_writes_down_what_it_still_knows(
    ai: AI, one: ScriptedModel
) -> None:
    assert binding._CLOSE_SECONDS <= 5
    step = Answer("a", hold=asyncio.Event())
    one.play(step)
    asking = asyncio.ensure_future(ai.run("m", HI))
    await one.until_asked(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(ai._records) == 1
    await asyncio.gather(*ai._records)
    (row,) = await ai.gateway("default").logs()
    assert row["status"] == "cancelled"
