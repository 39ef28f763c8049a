"""What a gateway adds: cache, retries, fallback, rate limit, cost, log."""

from __future__ import annotations

import pytest

from agents.ai import AI, AIError, AIRateLimited, call, gateway_object
from agents.ai.options import resolve
from agents.ai.settings import AISettings
from durable.testing import Answer, Fleet, ScriptedModel

HI = {"prompt": "hi"}
CACHED = {"id": "cached"}


async def test_the_same_question_is_answered_from_the_cache_until_its_time(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    ai = ai_fleet.env.AI
    one.play("first", "second", "third", "fourth")
    found = await ai.run("priced", HI, gateway=CACHED)
    assert found["gateway"]["cache_status"] == "MISS"
    await ai_fleet.clock.advance(seconds=59)
    found = await ai.run("priced", HI, gateway=CACHED)
    assert (found["response"], found["gateway"]["cache_status"]) == ("first", "HIT")
    assert found["gateway"]["cost"] == 0
    # Another question, another parameter: another answer.
    other = await ai.run("priced", {**HI, "temperature": 1}, gateway=CACHED)
    assert other["response"] == "second"
    skipped = await ai.run("priced", HI, gateway={**CACHED, "skip_cache": True})
    assert skipped["response"] == "third"
    assert skipped["gateway"]["cache_status"] is None
    await ai_fleet.clock.advance(seconds=2)
    found = await ai.run("priced", HI, gateway=CACHED)
    assert found["response"] == "fourth"
    rows = await ai.gateway("cached").logs()
    assert [row["cached"] for row in rows] == [False, False, False, True, False]


async def test_the_cache_is_shared_by_all_nodes_and_outlives_them(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    one.play("once")
    await ai_fleet.env.AI.run("m", HI, gateway=CACHED)
    await ai_fleet.start_node()
    await ai_fleet.nodes[0].stop()
    found = await ai_fleet.env.AI.run("m", HI, gateway=CACHED)
    assert found["gateway"]["cache_status"] == "HIT"


async def test_a_key_of_the_callers_own_and_what_is_not_cached(
    ai: AI, one: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.play("a", Answer(status=500), "b", "x" * 200, "c")
    own = {**CACHED, "cache_key": "mine"}
    await ai.run("m", HI, gateway=own)
    found = await ai.run("m", {"prompt": "something else"}, gateway=own)
    assert found["response"] == "a"
    with pytest.raises(AIError):
        await ai.run("m", {"prompt": "q"}, gateway=CACHED)
    assert (await ai.run("m", {"prompt": "q"}, gateway=CACHED))["response"] == "b"
    monkeypatch.setattr("agents.ai.binding.MAX_CACHED_BYTES", 100)
    await ai.run("m", {"prompt": "long"}, gateway=CACHED)
    assert (await ai.run("m", {"prompt": "long"}, gateway=CACHED))["response"] == "c"


async def test_the_cache_and_the_log_have_an_end(
    ai_fleet: Fleet, one: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_object, "MAX_CACHED_ANSWERS", 2)
    monkeypatch.setattr(gateway_object, "MAX_LOG_ROWS", 3)
    ai = ai_fleet.env.AI
    one.play("1", "2", "3", "4")
    for number in "123":
        await ai.run("m", {"prompt": number}, gateway=CACHED)
        await ai_fleet.clock.advance(seconds=1)
    assert (await ai.run("m", {"prompt": "3"}, gateway=CACHED))["response"] == "3"
    # The first was the first to be due.
    assert (await ai.run("m", {"prompt": "1"}, gateway=CACHED))["response"] == "4"
    rows = await ai.gateway("cached").logs(limit=100)
    assert len(rows) == 3
    assert rows[0]["id"] > rows[1]["id"] > rows[2]["id"]
    older = await ai.gateway("cached").logs(before=rows[0]["id"], limit=1)
    assert older == [rows[1]]
    with pytest.raises(ValueError, match="from 1 to 1,000"):
        await ai.gateway("cached").logs(limit=1001)


async def test_retries_until_it_answers_and_retry_after_is_kept(
    ai: AI, one: ScriptedModel
) -> None:
    one.play(Answer(status=500), Answer(status=429, retry_after=0), "at last")
    found = await ai.run("m", HI, gateway={"id": "patient"})
    assert found["response"] == "at last"
    (row,) = await ai.gateway("patient").logs()
    assert (row["attempts"], row["status"]) == (3, "ok")
    one.play(*[Answer(status=503)] * 3)
    with pytest.raises(AIError, match="answered 503"):
        await ai.run("m", HI, gateway={"id": "patient"})
    # It is no use to ask again; and nobody waits for an hour.
    for step in (Answer(status=400), Answer(status=429, retry_after=3600)):
        one.play(step)
        with pytest.raises(AIError):
            await ai.run("m", HI, gateway={"id": "patient"})
    assert len(one.requests) == 8


async def test_a_stream_that_fails_before_its_first_piece_is_tried_again(
    ai: AI, one: ScriptedModel
) -> None:
    one.play(Answer(status=500), "ok")
    found = await ai.run("m", HI, stream=True, gateway={"id": "patient"})
    assert [text async for text in found.text()] == ["ok"]


async def test_the_next_model_is_asked_when_one_fails(
    ai: AI, one: ScriptedModel, two: ScriptedModel
) -> None:
    one.play(Answer(status=400), Answer(status=500))
    found = await ai.run(["priced", "two/m-2"], HI)
    assert found["response"] == "from two"
    about = found["gateway"]
    assert (about["provider"], about["model"], about["step"]) == ("two", "m-2", 1)
    assert "Authorization" not in two.requests[0].headers
    # What another one said isn't the answer to the question put to the first.
    await ai.run(["m", "two/m-2"], {"prompt": "x"}, gateway=CACHED)
    one.play("from one")
    found = await ai.run(["m", "two/m-2"], {"prompt": "x"}, gateway=CACHED)
    assert found["response"] == "from one"


async def test_a_fixed_limit_lets_so_many_through_in_each_interval(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    ai = ai_fleet.env.AI
    one.play("1", "2", "3")
    for _ in range(2):
        await ai.run("m", HI, gateway={"id": "fixed"})
    with pytest.raises(AIRateLimited, match="lets 2 requests through in 60 s") as limit:
        await ai.run("m", HI, gateway={"id": "fixed"})
    assert limit.value.status == 429
    assert limit.value.retry_after is not None
    assert 59 < limit.value.retry_after <= 60
    assert len(one.requests) == 2
    rows = await ai.gateway("fixed").logs()
    assert rows[0]["status_code"] == 429
    await ai_fleet.clock.advance(seconds=60)
    await ai.run("m", HI, gateway={"id": "fixed"})


async def test_a_sliding_limit_still_counts_the_interval_before(
    ai_fleet: Fleet, one: ScriptedModel
) -> None:
    ai = ai_fleet.env.AI
    one.play(*"123456")
    sliding = {"id": "sliding"}
    for _ in range(4):
        await ai.run("m", HI, gateway=sliding)
    await ai_fleet.clock.advance(seconds=60)
    with pytest.raises(AIRateLimited):  # the four weigh four still
        await ai.run("m", HI, gateway=sliding)
    await ai_fleet.clock.advance(seconds=30)
    for _ in range(2):  # and two now
        await ai.run("m", HI, gateway=sliding)
    with pytest.raises(AIRateLimited):
        await ai.run("m", HI, gateway=sliding)


async def test_the_log_has_metadata_takes_feedback_and_no_questions(
    ai: AI, one: ScriptedModel
) -> None:
    one.play("secret answer", "unlogged")
    options = {"metadata": {"user": "ann", "paid": True}, "event_id": "e-1"}
    found = await ai.run("priced", {"prompt": "secret question"}, gateway=options)
    gateway = ai.gateway("default")
    id = found["gateway"]["log_id"]
    assert await gateway.patch_log(id, feedback=1, score=80)
    row = await gateway.get_log(id)
    assert row is not None
    assert row["metadata"] == {"user": "ann", "paid": True}
    assert (row["event_id"], row["feedback"], row["score"]) == ("e-1", 1, 80)
    assert row["cost"] == found["gateway"]["cost"] > 0
    assert row["tokens_in"] > 0
    assert "secret" not in str(row)
    assert not await gateway.patch_log("no-such", feedback=1)
    with pytest.raises(ValueError, match="'cost' is none of"):
        await gateway.patch_log(id, cost=0)
    found = await ai.run("m", HI, gateway={"id": "silent"})
    assert found["gateway"]["log_id"] is None
    assert await ai.gateway("silent").logs() == []


async def test_the_object_of_a_gateway_has_no_binding_and_no_url(
    ai_fleet: Fleet,
) -> None:
    assert set(ai_fleet.env.namespaces) == {"Asker"}
    http = await ai_fleet.http()
    for segment in ("a-i-gateway", "ai-gateway", "AIGateway", "aigateway"):
        async with http.get(f"/agents/{segment}/default") as answer:
            assert answer.status in (400, 404)


async def test_headers_are_options_and_go_no_further(
    ai: AI, one: ScriptedModel
) -> None:
    one.play("a", "b")
    headers = {
        "cf-aig-cache-ttl": "60",
        "CF-AIG-Metadata": '{"a": 1}',
        "X-Own": "kept",
    }
    await ai.run("m", HI, extra_headers=headers)
    found = await ai.run("m", HI, extra_headers=headers, return_raw_response=True)
    assert found.headers["cf-aig-cache-status"] == "HIT"
    (asked,) = one.requests
    assert asked.headers["X-Own"] == "kept"
    assert not [name for name in asked.headers if name.lower().startswith("cf-aig")]
    rows = await ai.gateway("default").logs()
    assert rows[0]["metadata"] == {"a": 1}
    with pytest.raises(ValueError, match="did you mean cache-ttl"):
        await ai.run("m", HI, extra_headers={"cf-aig-cache-tll": "1"})


async def test_requests_in_the_form_of_the_universal_endpoint(
    ai: AI, one: ScriptedModel, two: ScriptedModel
) -> None:
    one.play(Answer(status=500))
    query = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    steps = [
        {"provider": name, "endpoint": "chat/completions", "query": query}
        for name in ("one", "two")
    ]
    response = await ai.gateway("default").run(steps)
    assert response.headers["cf-aig-step"] == "1"
    said = await response.json()
    assert said["choices"][0]["message"]["content"] == "from two"
    assert ai.gateway("default").get_url("two") == two.url


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": {"max_attempts": 6}}, "max_attempts must be a whole number from"),
        ({"retries": {"retry_delay_ms": 60_001}}, "retry_delay_ms must be a number"),
        ({"retries": {"backoff": "none"}}, "backoff must be one of constant, linear"),
        ({"cache_ttl": 31 * 86_400}, "cache_ttl must be a number from 0 to 2.592e"),
        ({"cache_ttl": -1}, "cache_ttl must be a number from 0 to"),
        ({"request_timeout_ms": 0}, "request_timeout_ms must be a number from 1"),
        ({"collect_log": "yes"}, "collect_log must be true or false"),
        ({"metadata": dict.fromkeys("abcdef", 1)}, "metadata has 5 entries at most"),
        ({"metadata": {"a": []}}, "metadata must be texts, numbers"),
    ],
)
def test_options_that_can_not_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(AISettings(), options, None)


def test_pauses_grow_as_the_backoff_says() -> None:
    pauses = {}
    for backoff in ("constant", "linear", "exponential"):
        retries = {"backoff": backoff, "retry_delay_ms": 20_000}
        options, _ = resolve(AISettings(), {"retries": retries}, None)
        pauses[backoff] = [options.delay(attempt) for attempt in (1, 2, 3, 4)]
    assert pauses == {
        "constant": [20, 20, 20, 20],
        "linear": [20, 40, 60, 60],
        "exponential": [20, 40, 60, 60],
    }
    assert call.MAX_CACHED_BYTES == 2**20
